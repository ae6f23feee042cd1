"""What schemathesis cannot guess: keys, channels and signatures. Has half of the requests that fit their schemas be
ones that are taken, or refused for a reason beyond their form, so that those answers are checked as well.

The bytes that are signed are written here once more, from docs/API.md, and by another implementation of Ed25519.

API_ISSUER and API_RELAYER are the base URLs, API_PAYEE is the relayer's payee. Each answer is noted in the file API_SEEN,
a line each: service, method, path, status, and the code of a problem.
"""

import hashlib
import itertools
import json
import os
import struct
import time
import urllib.request

import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ISSUER, RELAYER = os.environ["API_ISSUER"], os.environ["API_RELAYER"]
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# Shorter than a channel may live where `limits.channel_lifetime_min_s` is not set to 1.
SHORT_LIFE_S = 2
# More than `batch_max` and `limits.settlements_batch_max`.
TOO_MANY = 2_000


def base58(raw):
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def raw(text):
    number = 0
    for character in text:
        number = number * 58 + ALPHABET.index(character)
    return number.to_bytes(32, "big")


def u64(number):
    return struct.pack("<Q", number)


def i64(number):
    return struct.pack("<q", number)


class Key:
    """A signing key, the same in each run."""

    def __init__(self, name):
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.public = self.key.public_key().public_bytes_raw()

    def text(self):
        return base58(self.public)

    def sign(self, *parts):
        return base58(self.key.sign(b"".join(parts)))


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
        return json.load(answer)


class Channel:
    """A channel of the payer for a payee, and the payments on it."""

    salts = itertools.count(time.time_ns())

    def __init__(self, payee, capacity=1_000_000, life_s=86_400, chain=None):
        self.amount, self.chain = 0, chain
        terms = {
            "issuer": INFO["public_key"],
            "payer": PAYER.text(),
            "payer_authorizer": PAYER.text(),
            "payee": payee,
            "asset": "usd",
            "capacity": str(capacity),
            "expires_at": int(time.time()) + life_s,
            "salt": str(next(self.salts)),
            "scheme": "ed25519",
        }
        scheme = b"\0"
        if chain:
            terms["scheme"] = {"payword": {"root": base58(chain[0]), "unit": "1", "length": len(chain) - 1}}
            scheme = b"".join([b"\1", chain[0], u64(1), u64(len(chain) - 1)])
        keys = [raw(terms[name]) for name in ("issuer", "payer", "payer_authorizer", "payee")]
        bound = [u64(capacity), i64(terms["expires_at"]), u64(int(terms["salt"])), scheme]
        asset = terms["asset"].encode()
        of_terms = b"".join([b"millrace:channel:1", *keys, struct.pack("<H", len(asset)), asset, *bound])
        self.id_bytes = hashlib.sha256(of_terms).digest()
        self.id = base58(self.id_bytes)
        self.opening = {"terms": terms, "signature": PAYER.sign(b"millrace:open:1", self.id_bytes)}

    def opened(self):
        assert ask(f"{ISSUER}/v1/channels", self.opening)["channel_id"] == self.id
        return self

    def next_amount(self):
        self.amount += 1
        return self.amount

    def voucher(self, amount):
        return PAYER.sign(b"\x56\x01", self.id_bytes, u64(amount), i64(0))

    def payment(self, amount=None):
        amount = amount or self.next_amount()
        if self.chain:
            return {"channel_id": self.id, "proof": {"payword": {"k": amount, "token": base58(self.chain[amount])}}}
        return {"channel_id": self.id, "cumulative_amount": str(amount), "signature": self.voucher(amount)}

    def close(self):
        return {"requested_by": "payer", "signature": PAYER.sign(b"millrace:close:1", self.id_bytes)}

    def refund(self):
        return {"signature": PAYER.sign(b"millrace:refund:1", self.id_bytes)}

    def settlement(self, amount=None, close=False, token=1):
        amount = amount or self.next_amount()
        parts = [b"millrace:settle:1", self.id_bytes, u64(amount), bytes([close]), u64(token)]
        return {
            "cumulative_amount": str(amount),
            "expires_at": 0,
            "signature": self.voucher(amount),
            "close": close,
            "fencing_token": token,
            "payee_signature": PAYEE.sign(*parts),
        }


def chain(length):
    """The values of a hash chain, from its end, which is what the payer commits to."""
    values = [hashlib.sha256(str(time.time_ns()).encode()).digest()]
    for _ in range(length):
        values.append(hashlib.sha256(values[-1]).digest())
    return values[::-1]


def settled(channel):
    """Has the settler close a channel."""
    ask(f"{RELAYER}/v1/channels/{channel.id}/close", channel.close())
    for _ in range(200):
        if ask(f"{RELAYER}/v1/channels/{channel.id}")["status"] == "closed":
            return channel
        time.sleep(0.1)
    raise AssertionError("the settler does not close a channel")


INFO = ask(f"{ISSUER}/v1/issuer")
# That of the relayer, and one whose key is here, so that it can settle.
SELLER = os.environ["API_PAYEE"]
PAYER, PAYEE = Key("payer"), Key("payee")
for party in (PAYER, PAYEE):
    ask(f"{ISSUER}/v1/accounts", {"public_key": party.text()})
PAYING, ENDING = Channel(SELLER).opened(), Channel(SELLER, life_s=20).opened()
CHAIN = Channel(SELLER, chain=chain(500)).opened()
SETTLING = Channel(PAYEE.text()).opened()
EXPIRED = Channel(PAYEE.text(), capacity=10, life_s=SHORT_LIFE_S).opened()
CLOSED = settled(Channel(SELLER).opened())
CLOSED_BY_US = Channel(PAYEE.text(), capacity=10).opened()
ask(f"{ISSUER}/v1/channels/{CLOSED_BY_US.id}/settlements", CLOSED_BY_US.settlement(1, close=True))


def of(channel):
    return {"id": channel.id}


def once_expired(body):
    time.sleep(max(0, EXPIRED.opening["terms"]["expires_at"] + 1 - time.time()))
    return of(EXPIRED), body


def closed_now():
    channel = Channel(SELLER, capacity=10).opened()
    return of(channel), channel.close()


def in_lines(case, payments):
    if case.media_type == "application/x-ndjson":
        return "".join(json.dumps(payment) + "\n" for payment in payments)
    return payments


# What is sent in place of what was made up, in turn: the path's parameters, where there are any, and the body. The first
# ones are taken; the others are refused, each for its own reason.
SENT = {
    (RELAYER, "POST /v1/payments"): [
        lambda case: (None, PAYING.payment()),
        lambda case: (None, CHAIN.payment()),
        # The latest again; one below it; more than there is; somebody else's; too late; and one with a wrong signature.
        lambda case: (None, PAYING.payment(PAYING.amount or None)),
        lambda case: (None, PAYING.payment(max(1, PAYING.amount - 1))),
        lambda case: (None, PAYING.payment(2_000_000)),
        lambda case: (None, SETTLING.payment(1)),
        lambda case: (None, ENDING.payment(1)),
        lambda case: (None, CLOSED.payment(1)),
        lambda case: (None, PAYING.payment(1) | {"cumulative_amount": "999999"}),
    ],
    (RELAYER, "POST /v1/payments/batch"): [
        lambda case: (None, in_lines(case, [PAYING.payment(), {"not": "a payment"}, CHAIN.payment()])),
        lambda case: (None, in_lines(case, [0] * TOO_MANY)),
    ],
    (RELAYER, "GET /v1/channels/{id}"): [
        lambda case: (of(PAYING), None),
        lambda case: (of(CHAIN), None),
        lambda case: (of(CLOSED), None),
        lambda case: (of(SETTLING), None),
    ],
    (RELAYER, "POST /v1/channels/{id}/close"): [
        lambda case: closed_now(),
        lambda case: (of(PAYING), SETTLING.close()),
        lambda case: (of(SETTLING), SETTLING.close()),
        lambda case: (of(ENDING), ENDING.close()),
    ],
    (ISSUER, "POST /v1/accounts"): [
        lambda case: (None, {"public_key": Key(str(time.time_ns())).text()}),
    ],
    (ISSUER, "GET /v1/accounts/{key}"): [lambda case: ({"key": PAYER.text()}, None)],
    (ISSUER, "POST /v1/channels"): [
        lambda case: (None, Channel(PAYEE.text(), capacity=10).opening),
        lambda case: (None, SETTLING.opening),
        lambda case: (None, Channel(PAYEE.text(), capacity=10**18).opening),
        lambda case: (None, Channel(Key("a stranger").text()).opening),
        lambda case: (None, Channel(SELLER, chain=CHAIN.chain).opening),
        lambda case: (None, Channel(PAYEE.text()).opening | {"signature": SETTLING.opening["signature"]}),
    ],
    (ISSUER, "GET /v1/channels/{id}"): [lambda case: (of(SETTLING), None), lambda case: (of(CLOSED), None)],
    (ISSUER, "POST /v1/channels/{id}/refund"): [
        lambda case: once_expired(EXPIRED.refund()),
        lambda case: (of(SETTLING), SETTLING.refund()),
        lambda case: (of(CLOSED), CLOSED.refund()),
        lambda case: (of(SETTLING), CLOSED.refund()),
    ],
    (ISSUER, "POST /v1/channels/{id}/settlements"): [
        lambda case: (of(SETTLING), SETTLING.settlement()),
        lambda case: (of(SETTLING), SETTLING.settlement(2_000_000)),
        lambda case: (of(SETTLING), SETTLING.settlement(1, close=True)),
        lambda case: (of(SETTLING), SETTLING.settlement(token=0)),
        lambda case: (of(SETTLING), SETTLING.settlement() | {"fencing_token": 2}),
        lambda case: (of(CLOSED_BY_US), CLOSED_BY_US.settlement(2)),
        lambda case: once_expired(EXPIRED.settlement(1)),
    ],
    (ISSUER, "POST /v1/settlements"): [
        lambda case: (
            None,
            {"settlements": [{"channel_id": SETTLING.id, **SETTLING.settlement()}, {"not": "a settlement"}]},
        ),
        lambda case: (None, {"settlements": [0] * TOO_MANY}),
    ],
}
TURNS = {route: itertools.count() for route in SENT}


def service_of(case):
    return RELAYER if "/v1/payments" in case.operation.schema.raw_schema["paths"] else ISSUER


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.hook
def filter_case(context, case):
    # Whatever is sent as lines is a text, and each line that is no payment is answered in its place: there is nothing to
    # refuse as a whole but too much of it.
    return case.media_type != "application/x-ndjson" or case.meta is None or not case.meta.generation.mode.is_negative


@schemathesis.hook
def before_call(context, case, kwargs):
    route = (service_of(case), f"{case.operation.method.upper()} {case.operation.path}")
    # What is meant to be refused stays as it is, and so does each second of the others.
    if route not in SENT or case.meta is None or case.meta.generation.mode.is_negative:
        return
    turn, other = divmod(next(TURNS[route]), 2)
    if other:
        return
    make = SENT[route][turn % len(SENT[route])]
    parameters, body = make(case)
    if parameters is not None:
        case.path_parameters = parameters
    if body is not None:
        case.body = body


@schemathesis.hook
def after_call(context, case, response):
    code = ""
    if "problem+json" in response.headers.get("content-type", [""])[0]:
        code = json.loads(response.content)["code"]
    with open(os.environ["API_SEEN"], "a") as seen:
        service = "relayer" if service_of(case) == RELAYER else "issuer"
        print(service, case.operation.method.upper(), case.operation.path, response.status_code, code, file=seen)
