// Two tenants use the API: node dist/try.js URL demo-credentials.json
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { signIn } from "./client.js";

interface Credential {
  tenant: string;
  email: string;
  password: string;
  role: string;
}

const [url, file] = process.argv.slice(2);
assert(url !== undefined && file !== undefined, "usage: try.js URL demo-credentials.json");
const people = JSON.parse(readFileSync(file, "utf8")) as Credential[];

function owner(tenant: string) {
  const found = people.find((person) => person.tenant === tenant && person.role === "owner");
  assert(found !== undefined, `${tenant} has no owner`);
  const { email, password } = found;
  return signIn(url!, { tenant, email, password });
}

const acme = await owner("acme");
const globex = await owner("globex");

const me = await acme.GET("/api/v1/me");
assert.equal(me.data?.tenant.slug, "acme");

const sku = `TS-${process.pid}`;
const item = { params: { header: { "Idempotency-Key": sku } }, body: { sku, name: "Made by the typed client" } };
const created = await acme.POST("/api/v1/items", item);
assert.equal(created.response.status, 201);
assert(created.data !== undefined);
const { id } = created.data;
const tag = created.response.headers.get("etag");
assert(tag !== null);

// Sent again with its key it has no second effect; asked for with its tag it is not sent again.
const again = await acme.POST("/api/v1/items", item);
assert.deepEqual([again.data?.id, again.response.headers.get("idempotency-replayed")], [id, "true"]);
const known = { params: { path: { id }, header: { "If-None-Match": tag } } };
assert.equal((await acme.GET("/api/v1/items/{id}", known)).response.status, 304);

// Nothing of the query is required: this line would not compile if the contract said so.
assert((await acme.GET("/api/v1/items")).data!.items.length > 0);
const listed = await acme.GET("/api/v1/items", { params: { query: { q: sku, sort: "-createdAt", limit: 1 } } });
assert.deepEqual(listed.data?.items.map((item) => item.id), [id]);
assert.equal(listed.data?.nextCursor, null);

// Another tenant's item is not there.
const foreign = await globex.GET("/api/v1/items/{id}", { params: { path: { id } } });
assert.equal(foreign.response.status, 404);
assert.equal(foreign.error?.code, "core.not_found");

const twice = await acme.POST("/api/v1/items", { body: { sku, name: "Again" } });
assert.equal(twice.error?.code, "catalog.sku_taken");

const invalid = await acme.POST("/api/v1/items", { body: { sku: " ", name: "", quantity: -1 } });
assert.deepEqual(invalid.error?.errors?.map((one) => one.pointer).sort(), ["/name", "/quantity", "/sku"]);

const byTag = { params: { path: { id }, header: { "If-Match": tag } } };
const changed = await acme.PATCH("/api/v1/items/{id}", { ...byTag, body: { quantity: 7 } });
assert.equal(changed.data?.quantity, 7);
const stale = await acme.DELETE("/api/v1/items/{id}", byTag);
assert.equal(stale.error?.code, "core.stale");
const deleted = await acme.DELETE("/api/v1/items/{id}", { params: { path: { id } } });
assert.equal(deleted.response.status, 204);

console.log("the typed client works");
