#!/usr/bin/env python3
"""What a script of a page does with a well-known library: pages of 1,000 partners by id, each an upsert into SQLite.

pull.py odoorpc|xmlrpc DATABASE-FILE FIELD,FIELD…   the server is in ODOO_URL, ODOO_DB, ODOO_USERNAME, ODOO_PASSWORD
Prints one line of JSON. The libraries decode into Python objects, so what is kept is their JSON again.
"""
import json
import os
import resource
import sqlite3
import sys
import time
import urllib.parse

PAGE = 1000


def reader(library):
    url, db, user, key = (os.environ[name] for name in ("ODOO_URL", "ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD"))
    if library == "odoorpc":
        import odoorpc

        parts = urllib.parse.urlsplit(url)
        odoo = odoorpc.ODOO(parts.hostname, port=parts.port, timeout=600)
        odoo.login(db, user, key)
        return lambda args, kwargs: odoo.execute_kw("res.partner", "search_read", args, kwargs)
    import xmlrpc.client

    uid = xmlrpc.client.ServerProxy(f"{url}/xmlrpc/2/common").authenticate(db, user, key, {})
    models = xmlrpc.client.ServerProxy(f"{url}/xmlrpc/2/object")
    return lambda args, kwargs: models.execute_kw(db, uid, key, "res.partner", "search_read", args, kwargs)


def main():
    library, path, fields = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = FULL")
    store.execute("CREATE TABLE record (id INTEGER PRIMARY KEY, write_date TEXT, body TEXT)")
    used = resource.getrusage(resource.RUSAGE_SELF)
    began, cpu = time.monotonic(), used.ru_utime + used.ru_stime
    read = reader(library)
    last = records = 0
    while True:
        rows = read([[["id", ">", last]]], {"fields": fields, "order": "id", "limit": PAGE, "context": {"active_test": False}})
        store.execute("BEGIN IMMEDIATE")
        store.executemany("INSERT INTO record VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET write_date = excluded.write_date, "
                          "body = excluded.body", [(row["id"], row["write_date"], json.dumps(row)) for row in rows])
        store.execute("COMMIT")
        records += len(rows)
        if len(rows) < PAGE:
            break
        last = rows[-1]["id"]
    wall = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"wall": wall, "cpu": used.ru_utime + used.ru_stime - cpu, "records": records, "peak_mb": used.ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
