// As pull.py, with the npm package odoo-await: pull.mjs MODULES-FOLDER DATABASE-FILE FIELD,FIELD…
import { createRequire } from "node:module";
import { DatabaseSync } from "node:sqlite";
import path from "node:path";

const [modules, file, names] = process.argv.slice(2);
const Odoo = createRequire(path.join(modules, "index.js"))("odoo-await");
const page = 1000;
const url = new URL(process.env.ODOO_URL);
const store = new DatabaseSync(file);
store.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE record (id INTEGER PRIMARY KEY, write_date TEXT, body TEXT)");
const upsert = store.prepare(
  "INSERT INTO record VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET write_date = excluded.write_date, body = excluded.body",
);
const began = process.hrtime.bigint();
const cpu = process.cpuUsage();
const odoo = new Odoo({
  baseUrl: `${url.protocol}//${url.hostname}`,
  port: Number(url.port),
  db: process.env.ODOO_DB,
  username: process.env.ODOO_USERNAME,
  password: process.env.ODOO_API_KEY,
});
await odoo.connect();
let last = 0;
let records = 0;
for (;;) {
  const rows = await odoo.searchRead("res.partner", [["id", ">", last]], names.split(","), {
    limit: page,
    order: "id",
    context: { active_test: false },
  });
  store.exec("BEGIN IMMEDIATE");
  for (const row of rows) upsert.run(row.id, String(row.write_date), JSON.stringify(row));
  store.exec("COMMIT");
  records += rows.length;
  if (rows.length < page) break;
  last = rows.at(-1).id;
}
const used = process.cpuUsage(cpu);
console.log(
  JSON.stringify({
    wall: Number(process.hrtime.bigint() - began) / 1e9,
    cpu: (used.user + used.system) / 1e6,
    records,
    peak_mb: process.resourceUsage().maxRSS / 1024,
  }),
);
