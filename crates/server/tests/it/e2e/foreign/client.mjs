// Asks what a list of cases says with Node's fetch, and prints what came: client.mjs CASES
import { readFileSync } from "node:fs";

for (const { method, url, headers, body } of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  try {
    const answer = await fetch(url, { method, headers, body: body === null ? undefined : readFileSync(body) });
    const text = await answer.text();
    console.log(JSON.stringify({ status: answer.status, lines: text.split("\n").length - 1 }));
  } catch (error) {
    console.log(JSON.stringify({ status: `${error}: ${error.cause}` }));
  }
}
