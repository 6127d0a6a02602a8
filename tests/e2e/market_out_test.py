#!/usr/bin/env python3
"""What changes in Odoo is told to a marketplace: the hub's own program between an Odoo and the stand-in Cartona.

Prints 'PASS name', 'FAIL name: why' or 'SKIP name: why' per test, for ./dev test. The programs are build/asan/dragoman,
build/asan/sandbox/sandbox-odoo and build/asan/sandbox/sandbox-cartona, or DRAGOMAN_BIN, DRAGOMAN_SANDBOX_ODOO and
DRAGOMAN_SANDBOX_CARTONA. Real servers come in DRAGOMAN_TEST_ODOO19_ENV and DRAGOMAN_TEST_ODOO14_ENV. Arguments: only
tests whose name holds one of them. DRAGOMAN_SEED replays what is ordered; DRAGOMAN_FULL=1 makes one long.
"""
import os
import pathlib
import random
import sys
import time
from datetime import datetime, timezone
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from crash_rig import wait_until  # noqa: E402
from market_rig import PATIENCE, REAL, SEED, Suite, a_shop  # noqa: E402

suite = Suite("Told")
test = suite.test
FULL = bool(os.environ.get("DRAGOMAN_FULL"))
MARKS = ["x_marketplace_sync_status", "x_marketplace_sync_date", "x_marketplace_error_message"]


class Seen:
    """How orders stand at the marketplace, and the hub's log where that does not come to be what it should."""

    def __init__(self, cartona, shop):
        self.cartona, self.shop = cartona, shop

    def status(self, order):
        return self.cartona.orders()[order]["order"]["status"]

    def becomes(self, order, status):
        """Seconds until it does."""
        began = time.monotonic()
        wait_until(lambda: self.status(order) == status, PATIENCE,
                   lambda: f"{order} is {self.status(order)}, not {status}: {self.shop.row(order)} {self.shop.hub.tail()}", every=0.1)
        return time.monotonic() - began

    def written_by_us(self, order):
        """The statuses that were set by the supplier's token, in order."""
        rows = self.cartona.control("/ledger", {"hashed_id": order, "what": "status", "by": "supplier"}, "GET")["ledger"]
        return [row["to"] for row in rows]

    def told_twice(self):
        return self.cartona.control("/ledger", {"what": "same_status"}, "GET")["ledger"]


def mark(shop, order):
    return shop.odoo.call("sale.order", "read", [shop.one(order)["id"]], MARKS)[0]


@test("WhatPeopleDoInOdooIsTold")
def what_people_do(env, folder):
    """Confirmed, shipped in part, delivered, cancelled in Odoo by its own buttons: the marketplace hears of it, by the rules, and
    the order in Odoo says so. What the marketplace delivers itself is held back and said to be."""
    with a_shop(env, folder) as (cartona, shop):
        seen = Seen(cartona, shop)
        lines = [(shop.codes[0], 5, 65)]
        plain, coded, theirs, dropped = (cartona.order(lines, **given) for given in (
            {}, {"installment_cost": 30}, {"delivered_by": "delivered_by_cartona"}, {}))
        every = (plain, coded, theirs, dropped)
        for order in every:
            shop.taken_in(order)
        for order in every:
            shop.press("sale.order", "action_confirm", shop.one(order)["id"])
        times = {"approved": seen.becomes(plain, "approved")}
        seen.becomes(coded, "approved"), seen.becomes(dropped, "approved")
        row = shop.until(theirs, lambda r: r["sync_code"] == "rule")
        assert row["sync_status"] == "not_synced" and seen.status(theirs) == "pending", row
        told = shop.test_sync(theirs)
        assert told["would"] == "nothing" and "delivery rule" in told["why"] and told["to"] is None, told
        by_hand = shop.test_sync(plain, "--status", "delivered")
        assert by_hand["would"] == "send" and by_hand["call"] == "single" and by_hand["to"] == f"{cartona.env['CARTONA_URL'].rstrip('/')}/order/update-order-status/{plain}", by_hand
        assert seen.status(plain) == "approved", "a test sends nothing"
        wait_until(lambda: mark(shop, plain)[MARKS[0]] == "synced" and mark(shop, theirs)[MARKS[0]] == "not_synced", PATIENCE,
                   lambda: f"{mark(shop, plain)} {mark(shop, theirs)} {shop.hub.tail()}", every=0.5)
        assert mark(shop, plain)[MARKS[1]] and not mark(shop, plain)[MARKS[2]], mark(shop, plain)
        assert "delivered_by_cartona" in mark(shop, theirs)[MARKS[2]], mark(shop, theirs)

        if shop.real:
            shop.ship(plain, 2)
            times["shipped in part"] = seen.becomes(plain, "assigned_to_salesman")
        shop.ship(plain), shop.ship(coded)
        times["delivered"] = seen.becomes(plain, "delivered")
        shop.until(coded, lambda r: r["sync_code"] == "otp")
        assert seen.status(coded) == "approved", seen.status(coded)

        def give(code):
            file = pathlib.Path(folder) / "code"
            file.write_text(code)
            shop.hub.ask("market", "otp", shop.name, coded, "--code-file", str(file))
        right = cartona.orders()[coded]["retailer_otp"]
        give("000000" if right != "000000" else "000001")
        row = shop.until(coded, lambda r: r["sync_status"] == "error")
        assert "wrong" in row["sync_message"], row
        give(right)
        seen.becomes(coded, "delivered")

        for order in (theirs, dropped):
            shop.press("sale.order", "action_cancel", shop.one(order)["id"])
        times["cancelled"] = seen.becomes(dropped, "cancelled_by_supplier")
        seen.becomes(theirs, "cancelled_by_supplier")
        assert cartona.orders()[theirs]["order"]["cancellation_reason"] == "supplier_asked_me_to_cancel"
        for order in every:
            shop.until(order, lambda r: r["sync_status"] == "synced")

        # Nothing was told twice or guessed, and what was told does not come back as an order's change.
        assert not seen.told_twice(), seen.told_twice()
        assert seen.written_by_us(theirs) == ["cancelled_by_supplier"], seen.written_by_us(theirs)
        steps = ["approved", "assigned_to_salesman", "delivered"] if shop.real else ["approved", "delivered"]
        assert seen.written_by_us(plain) == steps, seen.written_by_us(plain)
        return ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in times.items())


@test("TestSyncSaysByWhichRule")
def test_sync(env, folder):
    """For each rule what it would send and by which, or why nothing: and nothing is sent."""
    with a_shop(env, folder) as (cartona, shop):
        seen = Seen(cartona, shop)
        line = [(shop.codes[0], 1, 10)]
        shop.hub.ask("flow", "pause", "flow", "status", "--reason", "only looked at")
        draft, sold, coded, theirs, editing, done = (cartona.order(line, **given) for given in (
            {}, {}, {"installment_cost": 30}, {"delivered_by": "delivered_by_cartona"}, {}, {}))
        for order in (draft, sold, coded, theirs, editing, done):
            shop.taken_in(order)
        for order in (sold, coded, theirs, editing, done):
            shop.press("sale.order", "action_confirm", shop.one(order)["id"])
        shop.ship(coded), shop.ship(done)
        before = cartona.control("/requests", {"path": "order/update-order-status"}, "GET")["seq"]
        cartona.act(editing, "edit", by="shop")
        shop.until(editing, lambda r: r["status"] == "editing")

        said = {}

        def says(name, order, good, *words):
            wait_until(lambda: good(shop.test_sync(order, *words)), PATIENCE, lambda: f"{name}: {shop.test_sync(order, *words)}", every=0.2)
            said[name] = shop.test_sync(order, *words)
        says("draft", draft, lambda t: t["would"] == "same")
        says("sold", sold, lambda t: t["would"] == "send" and t["status"] == "approved" and t["call"] == "many")
        says("delivered", done, lambda t: t["would"] == "send" and t["status"] == "delivered" and t["call"] == "single")
        says("delivered, basic", done, lambda t: t["mapping"] == "basic" and t["status"] == "delivered", "--basic")
        says("with a code", coded, lambda t: t["would"] == "nothing" and t["code"] == "otp")
        says("theirs", theirs, lambda t: t["would"] == "nothing" and t["code"] == "rule")
        says("editing", editing, lambda t: t["would"] == "nothing" and t["code"] == "editing")
        says("by hand", sold, lambda t: t["would"] == "send" and t["status"] == "cancelled", "--status", "cancelled",
             "--cancellation-reason", "out_of_stock")
        sent = [row for row in cartona.control("/requests", {"path": "order/update-order-status", "since": before}, "GET")["requests"]
                if "synced" not in row["body"]]
        assert not sent and seen.status(sold) == "pending", sent
        return "; ".join(f"{name}: {told['would']} {told['status'] or told['code'] or ''} ({told['why']})" for name, told in said.items())


@test("WhatACallForManyDropsIsToldAgain", "StandIn19")
def a_dropped_row(env, folder):
    """What a call for many drops without a word is found where the order is listed again, and told again."""
    with a_shop(env, folder, "own_changes_return=yes") as (cartona, shop):
        seen = Seen(cartona, shop)
        orders = [cartona.order([(shop.codes[n], 1, 10)]) for n in range(4)]
        for order in orders:
            shop.taken_in(order)
        for flow in ("status", "orders"):
            shop.hub.ask("flow", "pause", "flow", flow, "--reason", "until all wait")
        for order in orders:
            shop.press("sale.order", "action_confirm", shop.one(order)["id"])
        for order in orders:
            shop.until(order, lambda r: r["sync_status"] == "syncing")
        # The shop changes one, which the hub has not heard of when it tells of all of them.
        cartona.act(orders[0], "edit", by="shop")
        shop.hub.ask("flow", "resume", "flow", "status")
        for order in orders[1:]:
            seen.becomes(order, "approved")
        assert seen.status(orders[0]) == "editing"
        cartona.act(orders[0], "finish_edit", by="shop")
        shop.hub.ask("flow", "resume", "flow", "orders")
        seen.becomes(orders[0], "approved")
        return "4 orders, one of them told again"


class Shelf:
    """Products whose stock counts, which the marketplace offers, linked as the hub proposes."""

    def __init__(self, cartona, shop, count, stock, **linked):
        self.cartona, self.shop = cartona, shop
        self.codes = [f"{shop.tag}-shelf{n}" for n in range(count)]
        self.ids = {code: shop.make_product(code, stored=True) for code in self.codes}
        for product in self.ids.values():
            shop.stock(product, stock)
        cartona.control("/products", {"replace": True, "products": [
            {"internal_product_id": code, "name": "Demo " + code, "selling_price": 1, "available_stock_quantity": 0} for code in self.codes]})
        shop.hub.ask("market", "catalog", shop.name)
        wait_until(lambda: shop.hub.ask("market", "confirm", shop.name, "--all")["linked"] + self.linked() >= count, PATIENCE,
                   lambda: f"{shop.hub.ask('market', 'proposals', shop.name)} {shop.hub.tail()}", every=0.5)

    def linked(self):
        rows = self.shop.hub.ask("market", "stock", self.shop.name)["products"]
        return sum(row["state"] != "unlinked" for row in rows)

    def there(self, code):
        """(stock, price) as the marketplace has them."""
        [row] = self.cartona.control("/products", {"internal_product_id": code}, "GET")["products"]
        return Decimal(str(row["available_stock_quantity"])), Decimal(str(row["selling_price"]))

    def becomes(self, code, stock, price):
        wait_until(lambda: self.there(code) == (stock, price), PATIENCE,
                   lambda: f"{code} is {self.there(code)}, not {(stock, price)}: {self.shop.hub.ask('market', 'stock', self.shop.name)} "
                           f"{self.shop.hub.tail()}", every=0.05)

    def writes(self, code, since=0):
        return self.cartona.control("/writes", {"internal_product_id": code, "since": since}, "GET")["writes"]

    def seconds(self, code, committed):
        """From that moment until the marketplace had the last figure of it."""
        at = datetime.fromisoformat(self.writes(code)[-1]["at"].replace("Z", "+00:00"))
        return (at - committed).total_seconds()


@test("StockAndPricesOfOdooAreThoseOfTheMarketplace")
def stock_and_prices(env, folder):
    """Counted, reserved by an order, sold to the last unit, dearer, archived: the marketplace has what Odoo has, each figure sent
    once, with the times from Odoo's commit to the marketplace's call."""
    with a_shop(env, folder) as (cartona, shop):
        shelf = Shelf(cartona, shop, 3, 20)
        first, second, third = shelf.codes
        for code in shelf.codes:
            shelf.becomes(code, 20, 10)
        times = {}

        def after(what, code, stock, price):
            committed = datetime.now(timezone.utc)
            shelf.becomes(code, stock, price)
            times[what] = shelf.seconds(code, committed)
        before = {code: len(shelf.writes(code)) for code in shelf.codes}
        shop.stock(shelf.ids[first], 12)
        if shop.real:
            after("counted anew", first, 12, 10)
        else:
            after("counted anew", first, 32, 10)  # the stand-in keeps a second count beside the first
        left = 12 if shop.real else 32
        shop.odoo.call("product.product", "write", [shelf.ids[second]], {"list_price": 12.5})
        after("dearer", second, 20, Decimal("12.5"))

        # An order takes what it reserves, and the last unit goes with its delivery.
        order = cartona.order([(first, left, 3)], status="approved")
        shop.taken_in(order)
        shelf.becomes(first, 0, 10)
        shop.ship(order)
        assert Decimal(shop.one(order)["lines"][0]["delivered"]) == left, shop.one(order)
        shop.stock(shelf.ids[first], 3)
        after("come in again", first, 3, 10)

        shop.odoo.call("product.product", "write", [shelf.ids[third]], {"active": False})
        after("archived", third, 0, 10)
        shop.odoo.call("product.product", "write", [shelf.ids[third]], {"active": True})
        after("back", third, 20, 10)

        # The hub hears of its own answer after the marketplace has the figure, and looks again at what Odoo's reservations touched.
        def told():
            return shop.hub.ask("market", "stock", shop.name)["products"]
        wait_until(lambda: {row["state"] for row in told()} == {"told"}, PATIENCE, lambda: f"not all are told: {told()} {shop.hub.tail()}",
                   every=0.2)
        assert all(row["stock_time"] for row in told()), told()

        # Only what differs was sent, nothing twice.
        for code in shelf.codes:
            values = [(row["field"], str(row["to"])) for row in shelf.writes(code)]
            again = [one for one, next in zip(values, values[1:]) if one == next]
            assert not again, f"{code} was told {again} twice: {values}"
        assert len(shelf.writes(second)) - before[second] == 1, shelf.writes(second)
        return ", ".join(f"{what} after {seconds:.2f} s" for what, seconds in times.items())


@test("KilledAtEveryStepOfTellingNothingIsLostOrTakenBack")
def killed_on_the_way_out(env, folder):
    """The hub dies at each step of telling: each status is told once, and prices end as Odoo has them."""
    chance = random.Random(SEED)
    with a_shop(env, folder) as (cartona, shop):
        seen = Seen(cartona, shop)
        shelf = Shelf(cartona, shop, 2, 20)
        for code in shelf.codes:
            shelf.becomes(code, 20, 10)
        kills, orders = 0, []
        steps = ("market.telling", "market.told", "market.marking", "market.stock_read", "market.stock_intended", "market.products_sent")
        for number, step in enumerate(steps):
            orders.append(cartona.order([(shop.codes[0], 1 + chance.randrange(5), 10)]))
            shop.taken_in(orders[-1])
            shop.hub.stop()
            shop.hub.start(kill_at=step + ":1")
            assert shop.hub.ready() or not shop.hub.lives()
            shop.press("sale.order", "action_confirm", shop.one(orders[-1])["id"])
            price = 20 + number
            shop.odoo.call("product.product", "write", list(shelf.ids.values()), {"list_price": price})
            wait_until(lambda: not shop.hub.lives(), PATIENCE, lambda: f"it did not come to {step}: {shop.hub.tail()}")
            kills += 1
            shop.hub.start()
            assert shop.hub.ready(), shop.hub.tail()
            seen.becomes(orders[-1], "approved")
            for code in shelf.codes:
                shelf.becomes(code, 20, price)
        for order in orders:
            shop.until(order, lambda r: r["sync_status"] == "synced")
            assert seen.written_by_us(order) == ["approved"], seen.written_by_us(order)
            wait_until(lambda: mark(shop, order)[MARKS[0]] == "synced", PATIENCE, lambda: f"{mark(shop, order)} {shop.hub.tail()}", every=0.5)
        for code in shelf.codes:
            prices = [Decimal(str(row["to"])) for row in shelf.writes(code) if "price" in row["field"]]
            # A figure whose answer nobody heard, as each death may leave one, is told again, which changes nothing; an
            # older one never comes after a newer.
            assert prices == sorted(prices) and all(prices.count(one) <= (1 if one == 10 else 2) for one in prices), prices
        return f"{kills} deaths"


# What nobody knows of a marketplace's answers to what it is told: each other position than the one that tests have anyway.
POSITIONS = [(name, value) for name, values in {
    "success_status": ("201", "204"), "success_body": ("empty_object", "array", "text", "empty"), "error_body": ("errors", "text", "html", "empty"),
    "refused_status": ("409", "422"), "unknown_order": ("400",), "bulk_status_bad_row": ("refused", "stops", "stops_quietly"),
    "bulk_product_bad_row": ("refused", "stops", "stops_quietly"), "bulk_max": ("2",), "bulk_over": ("cut",), "skip_steps": ("no",),
    "same_status": ("refused",), "own_changes_return": ("yes",), "ack_covers": ("pulled",), "cancel_reason": ("required", "any"),
    "editing_writes": ("accepted",), "cartona_delivers": ("open",), "account_field": ("supplier_code",), "product_keys": ("misspelt", "correct", "id"),
    "numbers": ("float", "text"), "hashed_id": ("digits",), "walk": ("stable",), "paging_end": ("sparse", "repeat", "error"),
}.items() for value in values]


@test("WhatIsToldArrivesInEachPositionOfTheSwitches", "StandIn19")
def each_position(env, folder):
    """Approved, delivered and cancelled, stock and price, with a row among them that the marketplace refuses: what can be told is
    there in the end, however it answers. Six positions by the seed; in the long form all."""
    chance = random.Random(SEED)
    positions = POSITIONS if FULL else chance.sample(POSITIONS, 6)
    with a_shop(env, folder) as (cartona, shop):
        seen = Seen(cartona, shop)
        shelf = Shelf(cartona, shop, 4, 20)
        for code in shelf.codes:
            shelf.becomes(code, 20, 10)
        for number, (name, value) in enumerate(positions):
            cartona.control("/switches", {name: value, **({"bulk_max": "2"} if name == "bulk_over" else {})})
            try:
                line = [(shop.codes[0], 2, 10)]
                delivered, approved, cancelled, editing = (cartona.order(line) for _ in range(4))
                every = (delivered, approved, cancelled, editing)
                for order in every:
                    shop.taken_in(order)
                for flow in ("status", "orders", "stock"):
                    shop.hub.ask("flow", "pause", "flow", flow, "--reason", "until all wait")
                cartona.act(editing, "edit", by="shop")  # the hub does not know, and tells of it with the others
                for order in every:
                    shop.press("sale.order", "action_confirm", shop.one(order)["id"])
                price = 30 + number
                shop.odoo.call("product.product", "write", list(shelf.ids.values()), {"list_price": price})
                for order in every:
                    shop.until(order, lambda r: r["sync_status"] == "syncing")
                for flow in ("status", "stock"):
                    shop.hub.ask("flow", "resume", "flow", flow)
                if value not in ("stops_quietly", "cut"):  # what is dropped there is told with the next state (the guide says so)
                    for order in (delivered, approved, cancelled):
                        seen.becomes(order, "approved")
                # Rows that it drops without a word are found where its products are read, as they are once a day by themselves.
                while value == "cut" and any(shelf.there(code) != (20, price) for code in shelf.codes):
                    before = [shelf.there(code) for code in shelf.codes]
                    shop.hub.ask("market", "catalog", shop.name)
                    wait_until(lambda: [shelf.there(code) for code in shelf.codes] != before, PATIENCE,
                               lambda: f"{before}: {shop.hub.ask('market', 'stock', shop.name)} {shop.hub.tail()}")
                for code in shelf.codes:
                    shelf.becomes(code, 20, price)
                if seen.status(editing) == "editing":
                    cartona.act(editing, "finish_edit", by="shop")
                shop.hub.ask("flow", "resume", "flow", "orders")
                shop.ship(delivered)
                shop.press("sale.order", "action_cancel", shop.one(cancelled)["id"])
                seen.becomes(delivered, "delivered")
                seen.becomes(cancelled, "cancelled_by_supplier")
                for order in (delivered, approved, cancelled):
                    shop.until(order, lambda r: r["sync_status"] == "synced")
                if name == "own_changes_return":  # listed again, it is seen not to have been told
                    seen.becomes(editing, "approved")
            except AssertionError as error:
                raise AssertionError(f"with {name}={value}: {error}") from None
            cartona.control("/switches", method="DELETE")
        return ", ".join(f"{name}={value}" for name, value in positions)


suite.main()
