#!/usr/bin/env python3
"""Orders of a marketplace come into Odoo: the hub's own program between the stand-in Cartona and an Odoo.

Prints 'PASS name', 'FAIL name: why' or 'SKIP name: why' per test, for ./dev test. The programs are build/asan/dragoman,
build/asan/sandbox/sandbox-odoo and build/asan/sandbox/sandbox-cartona, or DRAGOMAN_BIN, DRAGOMAN_SANDBOX_ODOO and
DRAGOMAN_SANDBOX_CARTONA. Real servers come in DRAGOMAN_TEST_ODOO19_ENV and DRAGOMAN_TEST_ODOO14_ENV. Arguments: only
tests whose name holds one of them. DRAGOMAN_SEED replays what is ordered; DRAGOMAN_FULL=1 makes one long.
"""
import json
import os
import pathlib
import random
import sys
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from crash_rig import HttpProxy, wait_until  # noqa: E402
from market_rig import CONFIRMED, PATIENCE, REAL, SEED, Cartona, Shop, Suite, a_database, a_shop  # noqa: E402

FULL = bool(os.environ.get("DRAGOMAN_FULL"))
# Where it matters most that the process dies.
KILLS = ("market.pulled", "market.stored", "deliver.intended", "deliver.sent", "finish.before_commit", "market.acknowledged")
suite = Suite("Orders")
test = suite.test


@test("TheWayOfAnOrder")
def the_way_of_an_order(env, folder):
    """A new order is confirmed in Odoo, one without its product is held until that is there, and each is acknowledged once."""
    with a_shop(env, folder) as (cartona, shop):
        good = cartona.order([(shop.codes[0], 2, 65), (shop.codes[0], 4, 100)], status="approved", cartona_credit=30, wallet_top_up=50,
                             retailer={"retailer_name": "متجر ☕", "retailer_code": shop.tag, "retailer_number": "+200000000002"})
        row = shop.taken_in(good)
        here, order = shop.one(good), cartona.orders()[good]["order"]
        assert here["state"] in CONFIRMED and Decimal(here["total"]) == 530 and Decimal(here["tax"]) == 0, here
        assert [(one["product"], Decimal(one["quantity"]), Decimal(one["price"])) for one in here["lines"]] == [
            (shop.products[shop.codes[0]], 2, 65), (shop.products[shop.codes[0]], 4, 100)], here["lines"]
        assert here["partner"]["name"] == "متجر ☕" and here["partner"]["ref"] == shop.tag, here["partner"]
        assert (here["ours"], here["status"], here["delivered_by"], here["payment"]) == (
            True, "approved", "delivered_by_supplier", "wallet_top_up"), here
        assert here["number"] == str(order["receipt_id"]) and Decimal(here["credit"]) == 30 and Decimal(here["wallet"]) == 50, here
        assert [event["what"] for event in row["story"]] == ["version", "imported", "acknowledged"], row["story"]

        missing = shop.tag + "-missing"
        held = cartona.order([(missing, 1, 12.5), (shop.codes[1], 1, 1)], status="approved")
        row = shop.until(held, lambda r: r["state"] == "held")
        assert row["hold"] == "import_notmatched" and missing in row["reason"], row
        assert not cartona.orders()[held]["acked"] and held not in shop.sold(), "nothing of an order that is held is in Odoo"
        holds = shop.hub.ask("market", "holds")["holds"]
        assert [h["hold"] for h in holds] == ["import_notmatched"] and holds[0]["orders"] == 1, holds
        shop.products[missing] = shop.make_product(missing)
        shop.taken_in(held)
        assert Decimal(shop.one(held)["total"]) == Decimal("13.5")

        cartona.act(good, "cancel", by="shop")
        shop.until(good, lambda r: r["state"] == "cancelled" and r["acknowledged"])
        assert shop.one(good)["state"] == "cancel"
        acks = [line for line in cartona.control("/ledger", {"what": "acked"}, "GET")["ledger"] if line["hashed_id"] == held]
        assert len(acks) == 1, acks
        return f"{len(shop.sold())} orders"


@test("AmountsAreTheMarketplacesToTheCent", *REAL)
def amounts(env, folder):
    """Discounts and rebate are noted and the price is what is left; taxes as set; what Odoo adds up otherwise is held."""
    with a_shop(env, folder) as (cartona, shop):
        taxed = shop.tag + "-taxed"
        tax = shop.odoo.call("account.tax", "search", [["type_tax_use", "=", "sale"], ["amount", ">", 0], ["price_include", "=", False]],
                             limit=1, order="id")
        assert tax, "this Odoo has no tax on sales"
        shop.make_product(taxed, taxes_id=[(6, 0, tax)])
        lines = [{"supplier_product_id": taxed, "internal_product_id": taxed, "amount": 3, "selling_price": "33.35",
                  "applied_supplier_discount": 3, "applied_cartona_discount": 2},
                 {"supplier_product_id": shop.codes[0], "internal_product_id": shop.codes[0], "amount": 7, "selling_price": "0.15",
                  "applied_supplier_discount": "0.05"}]
        given = {"status": "approved", "order_details": lines, "applied_supplier_rebate": 4, "installment_cost": 20}
        order = cartona.order([], **given)
        shop.taken_in(order)
        here = shop.one(order)
        assert Decimal(here["total"]) == Decimal("101.10") and Decimal(here["tax"]) == 0, here
        assert Decimal(here["discount"]) == Decimal("13.35") and Decimal(here["market_discount"]) == 6, here
        assert Decimal(here["installment"]) == 20 and here["payment"] == "installment", here

        shop.hub.ask("connection", "update", shop.name, "--line-taxes", "product")
        order = cartona.order([], **given)
        row = shop.until(order, lambda r: r["state"] == "held")
        assert row["hold"] == "import_total" and "101.10" in row["reason"] and order not in shop.sold(), row
        shop.hub.ask("connection", "update", shop.name, "--line-taxes", "none")
        shop.taken_in(order)
        assert Decimal(shop.one(order)["total"]) == Decimal("101.10")
        return "noted, and held where taxes would be added"


@test("ProductsAreFoundByTheChainAndNeverGuessed")
def products_by_the_chain(env, folder):
    """By barcode, code and what a person linked; two that fit and one that is archived hold the order; a factor converts units."""
    with a_shop(env, folder) as (cartona, shop):
        barcode = str(random.SystemRandom().randrange(10**12, 10**13))
        coded, twice, kept = shop.tag + "-coded", shop.tag + "-twice", shop.tag + "-kept"
        shop.make_product(shop.tag + "-other", barcode=barcode)
        shop.make_product(coded)
        first, second = shop.make_product(twice), shop.make_product(twice)
        archived = shop.make_product(kept)
        shop.odoo.call("product.product", "write", [archived], {"active": False})
        found = cartona.order([(barcode, 1, 2), (coded, 3, "1.25")], status="approved")
        doubtful = cartona.order([(twice, 2, 120)], status="approved")
        gone = cartona.order([(kept, 1, 7)], status="approved")
        shop.taken_in(found)
        known = {row["code"]: row["how"] for row in shop.hub.ask("market", "products", "--connection", shop.name)["products"]}
        assert (known[barcode], known[coded]) == ("barcode", "default_code"), known

        row = shop.until(doubtful, lambda r: r["state"] == "held")
        assert row["hold"] == "import_ambiguous" and str(first) in row["reason"] and str(second) in row["reason"], row
        row = shop.until(gone, lambda r: r["state"] == "held")
        assert row["hold"] == "import_notmatched" and "Archived" in row["reason"], row
        assert not any(cartona.orders()[id]["acked"] or id in shop.sold() for id in (doubtful, gone))

        # A person says which one it is, and that Odoo has it by the piece where the marketplace sells the dozen.
        product = cartona.orders()[doubtful]["order"]["order_details"][0]["supplier_product_id"]
        linked = shop.hub.ask("market", "link", shop.name, str(product), str(second), "--factor", "12")
        assert linked["retried"] >= 1, linked
        shop.taken_in(doubtful)
        here = shop.one(doubtful)
        assert [(one["product"], Decimal(one["quantity"]), Decimal(one["price"])) for one in here["lines"]] == [(second, 24, 10)], here
        assert Decimal(here["total"]) == 240, here
        shop.odoo.call("product.product", "write", [archived], {"active": True})
        shop.taken_in(gone)
        assert shop.one(gone)["lines"][0]["product"] == archived
        return "barcode, code, link with factor; two and archived held"


@test("CustomersAreFoundByCodeOrPhoneAndNeverShared")
def customers(env, folder):
    """By the shop's code, then by a phone, never by the name; two shops with one phone are two customers."""
    with a_shop(env, folder) as (cartona, shop):
        phone = "+2000" + str(random.SystemRandom().randrange(10**7, 10**8))
        partner = lambda **values: shop.odoo.call("res.partner", "create", values)  # noqa: E731
        by_code = partner(name="Known by code", ref=shop.tag + "-a")
        by_phone = partner(name="Known by phone", phone=phone)
        partner(name="Same name")
        who = lambda code, name, number: {"retailer_name": name, "retailer_code": code, "retailer_number": number}  # noqa: E731
        line = [(shop.codes[0], 1, 5)]
        first = cartona.order(line, retailer=who(shop.tag + "-a", "Renamed", "+200000000003"))
        second = cartona.order(line, retailer=who(shop.tag + "-b", "Somebody", phone))
        shop.taken_in(first), shop.taken_in(second)
        third = cartona.order(line, retailer=who(shop.tag + "-c", "Same name", phone))
        again = cartona.order(line, retailer=who(shop.tag + "-c", "Another name", "+200000000004"))
        shop.taken_in(third), shop.taken_in(again)
        partners = {id: shop.one(id)["partner"] for id in (first, second, third, again)}
        assert partners[first]["id"] == by_code and partners[second]["id"] == by_phone, partners
        assert partners[third]["id"] not in (by_code, by_phone) and partners[third]["ref"] == shop.tag + "-c", partners
        assert partners[again] == partners[third], partners
        return "code, phone, and one made"


@test("AWrongMatchOfACustomerIsUndone")
def a_wrong_match(env, folder):
    """A person says which contact a shop is, or that it is not the one: what comes next has it, what is in Odoo stays."""
    with a_shop(env, folder) as (cartona, shop):
        phone = "+2000" + str(random.SystemRandom().randrange(10**7, 10**8))
        wrong = shop.odoo.call("res.partner", "create", {"name": "Of another shop", "phone": phone})
        right = shop.odoo.call("res.partner", "create", {"name": "The right one"})
        who = {"retailer_name": "Demo Market", "retailer_code": shop.tag + "-a", "retailer_number": phone}
        place = lambda: cartona.order([(shop.codes[0], 1, 5)], retailer=who)  # noqa: E731
        partner = lambda order: shop.one(order)["partner"]["id"]  # noqa: E731
        first = place()
        shop.taken_in(first)
        assert partner(first) == wrong
        shown = shop.hub.ask("market", "customer", shop.name, shop.tag + "-a")
        assert (shown["odoo_partner"], shown["how"]) == (wrong, "phone") and shown["with_it"][0]["order"] == first, shown
        linked = shop.hub.ask("market", "customer-link", shop.name, shop.tag + "-a", str(right), "--reason", "they moved")
        assert linked["odoo_partner_name"] == "The right one" and [one["order"] for one in linked["kept"]] == [first], linked
        second = place()
        shop.taken_in(second)
        assert (partner(first), partner(second)) == (wrong, right)
        undone = shop.hub.ask("market", "customer-unlink", shop.name, shop.tag + "-a", "--reason", "nor that one")
        assert [one["order"] for one in undone["kept"]] == [second], undone
        third, fourth = place(), place()
        shop.taken_in(third), shop.taken_in(fourth)
        assert partner(third) == partner(fourth) not in (wrong, right), (partner(third), wrong, right)
        assert shop.hub.ask("market", "customer", shop.name, shop.tag + "-a")["how"] == "created"
        # A change of an order that was there before leaves its customer alone.
        cartona.act(first, "approve", by="admin")
        shop.until(first, lambda r: r["status"] == "approved" and r["acknowledged"])
        assert partner(first) == wrong and shop.row(first)["state"] == "imported"
        return "linked, unlinked, made anew"


@test("TheMarketplacesStateIsDoneInOdoo")
def the_marketplaces_state(env, folder):
    """Approved, under way, delivered, cancelled and returned there are the real thing in Odoo, stock and all."""
    with a_shop(env, folder) as (cartona, shop):
        code = shop.tag + "-stored"
        product = shop.products[code] = shop.make_product(code, stored=True)
        shop.stock(product, 20)
        order = cartona.order([(code, 5, 3)], status="pending")
        shop.taken_in(order)
        assert shop.one(order)["state"] in ("draft", "sent") and not shop.one(order)["pickings"]
        cartona.act(order, "approve", by="admin")  # a change of the supplier's own would not come back
        shop.until(order, lambda r: r["status"] == "approved" and r["acknowledged"])
        assert shop.one(order)["state"] in CONFIRMED and len(shop.one(order)["pickings"]) == 1, shop.one(order)

        # Its lines change while it is open.
        line = cartona.orders()[order]["order"]["order_details"][0]["id"]
        cartona.act(order, "lines", lines=[{"id": line, "amount": 8}])
        shop.until(order, lambda r: r["total"] in ("24", "24.00") and r["acknowledged"])
        assert [Decimal(one["quantity"]) for one in shop.one(order)["lines"]] == [8], shop.one(order)

        cartona.act(order, "assign", by="driver")
        shop.until(order, lambda r: r["status"] == "assigned_to_salesman" and r["acknowledged"])
        assert set(shop.one(order)["pickings"]) == {"assigned"}, shop.one(order)
        cartona.act(order, "deliver", by="driver")
        shop.until(order, lambda r: r["status"] == "delivered" and r["acknowledged"])
        here = shop.one(order)
        assert set(here["pickings"]) == {"done"} and Decimal(here["moved"]) == 8 and Decimal(here["lines"][0]["delivered"]) == 8, here

        # Not cancelled any more: a person is to see to it.
        cartona.act(order, "cancel", by="shop")
        row = shop.until(order, lambda r: r["flag"])
        assert shop.one(order)["state"] in CONFIRMED and row["state"] == "imported" and row["flag_reason"], row

        # 12 are left, and 15 were delivered: held, until the count is mended.
        short = cartona.order([(code, 15, 3)], status="delivered")
        row = shop.until(short, lambda r: r["state"] == "held")
        assert row["hold"] == "import_stock" and short not in shop.sold(), row
        shop.stock(product, 15)
        shop.taken_in(short)
        assert shop.one(short)["pickings"] == ["done"] and Decimal(shop.one(short)["moved"]) == 15, shop.one(short)

        # Somebody cancels the transfer, and the driver delivers all the same: a person is told, once.
        dropped = cartona.order([(code, 2, 3)], status="approved")
        shop.taken_in(dropped)
        transfer = shop.odoo.call("stock.picking", "search", [["sale_id", "=", shop.one(dropped)["id"]]])[0]
        shop.press("stock.picking", "action_cancel", transfer)
        for act in ("assign", "deliver"):
            cartona.act(dropped, act, by="driver")
        row = shop.until(dropped, lambda r: r["flag"] and r["acknowledged"])
        assert row["flag"] == "import_undelivered" and "0 of 2" in row["flag_reason"] and row["state"] == "imported", row

        cancelled = cartona.order([(code, 1, 3)], status="approved")
        shop.taken_in(cancelled)
        cartona.act(cancelled, "cancel", by="shop")
        shop.until(cancelled, lambda r: r["state"] == "cancelled" and r["acknowledged"])
        assert shop.one(cancelled)["state"] == "cancel" and shop.one(cancelled)["pickings"] == ["cancel"], shop.one(cancelled)

        returned = cartona.order([(shop.codes[0], 1, 3)], status="assigned_to_salesman")
        shop.taken_in(returned)
        before = shop.one(returned)
        cartona.act(returned, "return", by="driver")
        row = shop.until(returned, lambda r: r["flag"] == "returned" and r["acknowledged"])
        assert shop.one(returned)["state"] == before["state"] and "returned" in row["flag_reason"], row
        return "pending to delivered, changed, short of stock, cancelled, returned"


@test("WhatTheMarketplaceDeliversMovesNoStock")
def delivered_by_the_marketplace(env, folder):
    """Orders that Cartona delivers are confirmed, and leave no open delivery and no stock move, unless a setting keeps them."""
    with a_shop(env, folder) as (cartona, shop):
        code = shop.tag + "-stored"
        product = shop.products[code] = shop.make_product(code, stored=True)
        shop.stock(product, 10)
        given = {"status": "approved", "delivered_by": "delivered_by_cartona"}
        order = cartona.order([(code, 4, 3)], **given)
        shop.taken_in(order)
        for status in ("approved", "assigned_to_salesman", "delivered"):
            if status != "approved":
                cartona.act(order, "assign" if status == "assigned_to_salesman" else "deliver", by="driver")
                shop.until(order, lambda r: r["status"] == status and r["acknowledged"])
            here = shop.one(order)
            assert here["state"] in CONFIRMED and set(here["pickings"] or []) <= {"cancel"}, here
            assert not Decimal(here["moved"] or 0), here
        assert here["delivered_by"] == "delivered_by_cartona" and here["status"] == "delivered", here
        on_hand = shop.odoo.call("product.product", "read", [product], ["qty_available"])[0]["qty_available"]
        assert on_hand == 10, on_hand

        shop.hub.ask("connection", "update", shop.name, "--keep-pickings")
        kept = cartona.order([(code, 1, 3)], **given)
        shop.taken_in(kept)
        assert len(shop.one(kept)["pickings"]) == 1 and shop.one(kept)["pickings"] != ["cancel"], shop.one(kept)
        return "none moved of 10"


@test("DeliveryWordsNameTheDeliveryMethod", *REAL)
def delivery_words(env, folder):
    """The route, else who delivers, says the delivery method in Odoo; a word that is not in the table leaves it open."""
    with a_shop(env, folder) as (cartona, shop):
        service = shop.make_product(shop.tag + "-delivery", type="service")
        van, parcel = (shop.odoo.call("delivery.carrier", "create", {"name": f"{shop.tag} {name}", "product_id": service,
                                                                      "delivery_type": "fixed"}) for name in ("van", "parcel"))
        gone = shop.odoo.call("delivery.carrier", "create", {"name": shop.tag + " gone", "product_id": service})
        shop.odoo.call("delivery.carrier", "unlink", [gone])
        table = {"RT-07": van, "delivered_by_cartona": parcel, "RT-99": gone}
        shop.hub.ask("connection", "update", shop.name, "--carriers", json.dumps(table))
        line, given = [(shop.codes[0], 1, 5)], {"status": "approved"}
        by_route = cartona.order(line, distribution_route_code="RT-07", delivered_by="delivered_by_cartona", **given)
        by_who = cartona.order(line, distribution_route_code="RT-08", delivered_by="delivered_by_cartona", **given)
        unmapped = cartona.order(line, distribution_route_code="RT-08", **given)
        missing = cartona.order(line, distribution_route_code="RT-99", **given)
        for order, carrier in ((by_route, van), (by_who, parcel), (unmapped, None)):
            shop.taken_in(order)
            assert shop.one(order)["carrier"] == carrier and Decimal(shop.one(order)["total"]) == 5, shop.one(order)
        row = shop.until(missing, lambda r: r["state"] == "held")
        assert row["hold"] == "import_notmatched" and "delivery.carrier" in row["reason"], row
        shop.hub.ask("connection", "update", shop.name, "--carriers", json.dumps(table | {"RT-99": parcel}))
        shop.taken_in(missing)
        assert shop.one(missing)["carrier"] == parcel
        return "by route, by who delivers, none, and one that is not there"


def place(cartona, shop, chance, count):
    for _ in range(count):
        lines = [(chance.choice(shop.codes), chance.randrange(1, 20), chance.randrange(100, 9999) / 100)
                 for _ in range(chance.randrange(1, 4))]
        cartona.order(lines, status=chance.choice(("pending", "approved")),
                      retailer={"retailer_name": "Shop", "retailer_code": f"{shop.tag}-{chance.randrange(5)}"})


def die_and_finish(cartona, shop, chance, steps, orders):
    """The hub dies at each of these steps, with so many new orders each time; then it does the rest. How many deaths."""
    shop.hub.stop()
    kills = 0
    for step in steps:
        place(cartona, shop, chance, orders)
        shop.hub.start(kill_at=step)
        wait_until(lambda: not shop.hub.lives() or (shop.hub.healthy() and shop.settled()), PATIENCE,
                   lambda: f"{step}: {shop.hub.tail()}", every=0.2)
        if shop.hub.lives():
            shop.hub.stop()
        else:
            kills += 1
    shop.hub.start()
    assert shop.hub.ready(), shop.hub.tail()
    wait_until(lambda: shop.hub.retry_suspects() or shop.settled(), PATIENCE, lambda: f"{shop.hub.ask('market', 'orders')}")
    wait_until(shop.settled, PATIENCE, lambda: f"{shop.hub.ask('market', 'orders')} {shop.hub.tail()}")
    wrong = shop.judge()
    assert not wrong, f"{len(wrong)} wrong: " + "; ".join(wrong[:5])
    older = cartona.control("/ledger", {"what": "ack_of_an_older_version"}, "GET")["ledger"]
    assert not older, older
    return kills


@test("KilledAtEveryStepOrdersAreThereOnce")
def killed_at_every_step(env, folder):
    """The hub dies at each step of an order's way; at the end both sides' own records agree, to the cent."""
    with a_shop(env, folder, batch_size=5) as (cartona, shop):
        kills = die_and_finish(cartona, shop, random.Random(SEED), [step + ":1" for step in KILLS], 8)
        assert kills == len(KILLS), f"only {kills} kills"
        return f"{kills} kills, {len(cartona.orders())} orders, each once"


@test("LostAnswersAndDeathsLoseNoOrder", "Odoo19")
def lost_answers_and_deaths(env, folder):
    """The hub killed again and again, one answer in ten lost on either side: each order once, totals to the cent. In the long
    form 1,000 orders and 50 deaths."""
    deaths, orders = (50, 20) if FULL else (6, 5)
    chance = random.Random(SEED)
    lost = random.Random(SEED + 1)
    proxy = HttpProxy(env["ODOO_URL"], lambda kind: "reset_after" if kind == "deliver" and lost.random() < 0.1 else "pass")
    try:
        with a_shop(env, folder, proxy=proxy.url) as (cartona, shop):
            cartona.control("/faults", {"match": {"path": "order/", "probability": 0.1, "seed": SEED}, "action": {"kind": "reset_after"}})
            # Pulls come again and again; a batch may be the only one of its round.
            steps = [f"{step}:{chance.randrange(1, 4) if step in ('market.pulled', 'market.stored') else 1}"
                     for step in (KILLS[n % len(KILLS)] for n in range(deaths))]
            kills = die_and_finish(cartona, shop, chance, steps, orders)
            assert kills >= deaths * 0.8, f"only {kills} kills"
            sold, placed = shop.sold(), cartona.orders()
            ours = sum(Decimal(one[0]["total"]) for one in sold.values())
            theirs = sum(Decimal(str(row["order"]["total_price"])) for row in placed.values())
            assert len(sold) == len(placed) == deaths * orders and ours == theirs, (len(sold), len(placed), ours, theirs)
            return f"{kills} kills, {len(sold)} orders, {ours} on both sides, answers of Odoo: {proxy.counts}"
    finally:
        proxy.close()


@test("AccountsOfOneTokenAreKeptApartByTheirCode")
def accounts_of_one_token(env, folder):
    """Two accounts of one token, which lists the orders and products of both: each connection takes and tells its own."""
    with Cartona(folder, "--supplier-codes", "2") as cartona:
        shop = Shop(env, folder, cartona, supplier_code="1")
        try:
            at = shop.account.index("--supplier-code")
            del shop.account[at:at + 2]
            names = {"1": shop.name, "2": shop.connect(shop.name + "-2", folder / "token", "--supplier-code", "2")}
            code = shop.tag + "-both"
            shop.stock(shop.make_product(code, stored=True), 7)
            for account in names:
                cartona.control("/products", {"replace": True, "supplier_code": account, "products": [
                    {"supplier_product_id": f"{account}{shop.tag}", "internal_product_id": code, "name": "Demo " + account,
                     "selling_price": 1, "available_stock_quantity": 0}]})
            rows = [{"supplier_code": account, "status": "approved",
                     "retailer": {"retailer_name": "Demo shop", "retailer_code": shop.tag}, "order_details": [
                         {"supplier_product_id": product, "internal_product_id": product, "amount": 1, "selling_price": 5}]}
                    for account in names for product in shop.codes]
            placed = cartona.control("/orders", {"orders": rows})["hashed_ids"]
            wait_until(lambda: shop.settled(placed), PATIENCE, lambda: f"{shop.hub.ask('market', 'status')} {shop.hub.tail()}")
            theirs = cartona.orders()
            for account, name in names.items():
                sold = shop.sold(name)
                own = [one for one in placed if theirs[one]["order"]["supplier_code"] == account]
                assert sorted(sold) == sorted(own) and all(len(here) == 1 for here in sold.values()), (account, sold)

            def writes(account):
                return [(one["field"], str(one["to"])) for one in
                        cartona.control("/writes", {"supplier_product_id": f"{account}{shop.tag}"}, "GET")["writes"]]
            for account, name in names.items():
                shop.hub.ask("market", "catalog", name)
                wait_until(lambda: shop.hub.ask("market", "confirm", name, "--all")["linked"], PATIENCE,
                           lambda: f"{shop.hub.ask('market', 'proposals', name)} {shop.hub.tail()}", every=0.5)
                wait_until(lambda: len(writes(account)) >= 2, PATIENCE, lambda: f"{writes(account)} {shop.hub.tail()}", every=0.2)
                assert not account == "1" or not writes("2"), "the other account's product was told nothing"
                linked = [row["product"] for row in shop.hub.ask("market", "stock", name)["products"]]
                assert f"{account}{shop.tag}" in linked and f"{3 - int(account)}{shop.tag}" not in linked, linked
            shop.hub.stop()
            return f"{len(placed)} orders of {len(names)} accounts, each once"
        finally:
            shop.end()


@test("SeveralAccountsGetInBesideOneThatIsDead")
def several_accounts(env, folder):
    """Four accounts of one Odoo, the fourth of which takes calls and never answers: the orders of three get in as if it were not
    there, its own are told as what they are, and come in by themselves when it answers again."""
    with Cartona(folder, "--accounts", "4") as cartona:
        shop = Shop(env, folder, cartona, timeout_seconds=2)
        try:
            names = {1: shop.name, **{number: shop.one_more_account(folder, number) for number in (2, 3, 4)}}
            cartona.control("/accounts", {"name": "cartona-4", "dead": "hang"}, "PATCH")
            chance, placed = random.Random(SEED), {}
            for number in names:
                rows = [{"status": "approved", "retailer": {"retailer_name": "Demo shop", "retailer_code": f"{shop.tag}-{n % 3}"},
                         "order_details": [{"supplier_product_id": code, "internal_product_id": code, "amount": chance.randrange(1, 9),
                                            "selling_price": chance.randrange(100, 9999) / 100} for code in chance.sample(shop.codes, 2)]}
                        for n in range(12)]
                placed[number] = cartona.control("/orders", {"account": f"cartona-{number}", "orders": rows})["hashed_ids"]
            live = [one for number in (1, 2, 3) for one in placed[number]]
            wait_until(lambda: shop.settled(live), PATIENCE, lambda: f"{shop.hub.ask('market', 'status')} {shop.hub.tail()}")
            standing = {one["connection"]: one for one in shop.hub.ask("market", "status")["connections"]}

            def told():
                one = {one["connection"]: one for one in shop.hub.ask("market", "status")["connections"]}[names[4]]
                return one if one["away_since"] and one["away_reason"] and one["next_call"] else None
            wait_until(told, PATIENCE, lambda: f"{shop.hub.ask('market', 'status')}")
            assert not any(standing[names[number]]["away_since"] for number in (1, 2, 3)), standing
            assert not shop.sold(names[4]), "what was never answered is not in Odoo"

            cartona.control("/accounts", {"name": "cartona-4", "dead": "no"}, "PATCH")
            wait_until(lambda: shop.settled([*live, *placed[4]]), PATIENCE, lambda: f"{shop.hub.ask('market', 'status')} {shop.hub.tail()}")
            rows = cartona.orders()
            for number, name in names.items():
                sold = shop.sold(name)
                assert sorted(sold) == sorted(placed[number]), (name, sorted(sold), placed[number])
                for one, here in sold.items():
                    assert len(here) == 1 and here[0]["state"] in CONFIRMED, here
                    assert Decimal(here[0]["total"]) == Decimal(str(rows[one]["order"]["total_price"])), (here, rows[one])
                    assert rows[one]["acked"], rows[one]
            shop.hub.stop()
            return f"{len(rows)} orders of {len(names)} accounts, each once"
        finally:
            shop.end()


@test("TwoNodesOfPostgresTakeEachOrderOfAnAccountOnce", "StandIn19")
def two_nodes(env, folder):
    """Two nodes ask the same account every second, each of them is killed at every step of an order's way, and one may be away
    while the other goes on: each order once."""
    with a_database() as store:
        if not store:
            return None
        with a_shop(env, folder, store=store, more_nodes=1, batch_size=5) as (cartona, shop):
            nodes = [shop.hub, *shop.others]
            shop.others[0].start()
            assert shop.others[0].ready(), shop.others[0].tail()
            chance, kills = random.Random(SEED), 0

            def tail():
                return " | ".join(f"{hub.name}: {hub.tail(700)}" for hub in nodes)
            for number, step in enumerate(KILLS):
                # The one that does not do this step first lives on; which of them it is, is theirs to say.
                for hub in nodes:
                    hub.stop()
                place(cartona, shop, chance, 8)
                for hub in nodes if number % 2 else reversed(nodes):
                    hub.start(kill_at=step + ":1")
                wait_until(lambda: not all(hub.lives() for hub in nodes), PATIENCE, lambda: f"{step}: {tail()}")
                kills += 1
                wait_until(lambda: not any(hub.lives() for hub in nodes) or shop.settled(), PATIENCE, lambda: f"{step}: {tail()}", every=0.2)
                for hub in nodes:
                    hub.end()
                    hub.start()
                    assert hub.ready(), hub.tail()
                wait_until(lambda: shop.hub.retry_suspects() or shop.settled(), PATIENCE, tail, every=0.5)
            wait_until(shop.settled, PATIENCE, lambda: f"{shop.hub.ask('market', 'orders')} {tail()}")
            wrong = shop.judge()
            assert not wrong, f"{len(wrong)} wrong: " + "; ".join(wrong[:5])
            for hub in nodes:
                hub.stop()
            return f"{kills} rounds of deaths, {len(cartona.orders())} orders, each once"


suite.main()
