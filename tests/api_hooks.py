"""What schemathesis cannot guess: keys, channels and signatures. Has half of the requests that fit their schemas be
ones that are taken, so that answers to what went well are checked as well as refusals.

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

    def __init__(self, payee, capacity=1_000_000, life_s=86_400):
        self.amount = 0
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
        keys = [raw(terms[name]) for name in ("issuer", "payer", "payer_authorizer", "payee")]
        bound = [u64(capacity), i64(terms["expires_at"]), u64(int(terms["salt"])), b"\0"]
        asset = terms["asset"].encode()
        of_terms = b"".join([b"millrace:channel:1", *keys, struct.pack("<H", len(asset)), asset, *bound])
        self.id_bytes = hashlib.sha256(of_terms).digest()
        self.id = base58(self.id_bytes)
        self.opening = {"terms": terms, "signature": PAYER.sign(b"millrace:open:1", self.id_bytes)}

    def opened(self):
        assert ask(f"{ISSUER}/v1/channels", self.opening)["channel_id"] == self.id
        return self

    def signature(self):
        return PAYER.sign(b"\x56\x01", self.id_bytes, u64(self.amount), i64(0))

    def payment(self):
        self.amount += 1
        return {"channel_id": self.id, "cumulative_amount": str(self.amount), "signature": self.signature()}

    def close(self):
        return {"requested_by": "payer", "signature": PAYER.sign(b"millrace:close:1", self.id_bytes)}

    def refund(self):
        return {"signature": PAYER.sign(b"millrace:refund:1", self.id_bytes)}

    def settlement(self):
        self.amount += 1
        parts = [b"millrace:settle:1", self.id_bytes, u64(self.amount), b"\0", u64(1)]
        return {
            "cumulative_amount": str(self.amount),
            "expires_at": 0,
            "signature": self.signature(),
            "close": False,
            "fencing_token": 1,
            "payee_signature": PAYEE.sign(*parts),
        }


INFO = ask(f"{ISSUER}/v1/issuer")
PAYER, PAYEE = Key("payer"), Key("payee")
for party in (PAYER, PAYEE):
    ask(f"{ISSUER}/v1/accounts", {"public_key": party.text()})
# One that pays the relayer's payee, one whose payee is ours to settle for, and one that is over soon.
PAYING, SETTLING = Channel(os.environ["API_PAYEE"]).opened(), Channel(PAYEE.text()).opened()
EXPIRED = Channel(PAYEE.text(), capacity=10, life_s=SHORT_LIFE_S).opened()


def of(channel):
    return {"id": channel.id}


def settled_in_batch():
    return {"settlements": [{"channel_id": SETTLING.id, **SETTLING.settlement()}, {"not": "a settlement"}]}


def refunded():
    left_s = EXPIRED.opening["terms"]["expires_at"] + 1 - time.time()
    time.sleep(max(0, left_s))
    return of(EXPIRED), EXPIRED.refund()


def closed():
    channel = Channel(os.environ["API_PAYEE"], capacity=10).opened()
    return of(channel), channel.close()


def opening():
    """Each second one is open already."""
    return SETTLING.opening if next(OPENINGS) % 2 else Channel(PAYEE.text(), capacity=10).opening


def paid_in_batch(case):
    payments = [PAYING.payment(), {"not": "a payment"}]
    if case.media_type == "application/x-ndjson":
        return None, "".join(json.dumps(payment) + "\n" for payment in payments)
    return None, payments


# What is taken: the path's parameters, where there are any, and the body.
TAKEN = {
    (RELAYER, "POST /v1/payments"): lambda case: (None, PAYING.payment()),
    (RELAYER, "POST /v1/payments/batch"): paid_in_batch,
    (RELAYER, "GET /v1/channels/{id}"): lambda case: (of(PAYING), None),
    (RELAYER, "POST /v1/channels/{id}/close"): lambda case: closed(),
    (ISSUER, "POST /v1/accounts"): lambda case: (None, {"public_key": Key(str(time.time_ns())).text()}),
    (ISSUER, "GET /v1/accounts/{key}"): lambda case: ({"key": PAYER.text()}, None),
    (ISSUER, "POST /v1/channels"): lambda case: (None, opening()),
    (ISSUER, "GET /v1/channels/{id}"): lambda case: (of(SETTLING), None),
    (ISSUER, "POST /v1/channels/{id}/refund"): lambda case: refunded(),
    (ISSUER, "POST /v1/channels/{id}/settlements"): lambda case: (of(SETTLING), SETTLING.settlement()),
    (ISSUER, "POST /v1/settlements"): lambda case: (None, settled_in_batch()),
}
TURNS, OPENINGS = itertools.count(), itertools.count()


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
    make = TAKEN.get((service_of(case), f"{case.operation.method.upper()} {case.operation.path}"))
    # What is meant to be refused stays as it is.
    if make is None or case.meta is None or case.meta.generation.mode.is_negative or next(TURNS) % 2:
        return
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
