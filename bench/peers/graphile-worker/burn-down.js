// How fast graphile-worker burns down no-ops that are there, one process, set up as its documentation sets it up for speed:
// https://worker.graphile.org/docs/performance
//
// node burn-down.js DATABASE_URL COUNT prints jobs a second.
import { Logger, run, runMigrations } from "graphile-worker";
import pg from "pg";

const [connectionString, count] = process.argv.slice(2);
const wanted = Number(count);
await runMigrations({ connectionString });
const client = new pg.Client({ connectionString });
await client.connect();
await client.query(
  `select count(*) from graphile_worker.add_jobs(array(
     select ('nothing', '{}', null, null, 25, null, null, null)::graphile_worker.job_spec from generate_series(1, $1::int)))`,
  [wanted],
);
await client.query("vacuum analyze");
await client.end();

let done = 0;
let finish;
const finished = new Promise((resolve) => (finish = resolve));
const begun = performance.now();
const runner = await run({
  preset: {
    worker: {
      logger: new Logger(() => () => {}),
      connectionString,
      concurrentJobs: 24,
      maxPoolSize: 25,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  },
  noHandleSignals: true,
  taskList: {
    nothing: () => {
      done += 1;
      if (done === wanted) finish();
    },
  },
});
await finished;
await runner.stop(); // what is done is written by now
console.log(wanted / ((performance.now() - begun) / 1000));
process.exit(0);
