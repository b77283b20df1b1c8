#!/usr/bin/env python3
"""Writes vectors.json: the values of PROTOCOL.md, computed a second time from its text and the BIPs alone.

Nothing but Python's standard library; run it when PROTOCOL.md changes: python3 vectors.py > vectors.json
"""
import hashlib
import hmac
import json

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
NUMS = bytes.fromhex("50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0")


def sha256(data):
    return hashlib.sha256(data).digest()


def tagged(tag, data):
    prefix = sha256(tag.encode())
    return sha256(prefix + prefix + data)


def add(a, b):
    if a is None:
        return b
    if b is None:
        return a
    if a[0] == b[0] and a[1] != b[1]:
        return None
    if a == b:
        slope = 3 * a[0] * a[0] * pow(2 * a[1], P - 2, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], P - 2, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(point, number):
    result = None
    while number:
        if number & 1:
            result = add(result, point)
        point = add(point, point)
        number >>= 1
    return result


def lift(x):
    x = int.from_bytes(x, "big")
    y = pow(x**3 + 7, (P + 1) // 4, P)
    return x, y if y % 2 == 0 else P - y


def x_only(secret):
    return multiply(G, int.from_bytes(secret, "big"))[0].to_bytes(32, "big")


def sign(message, secret):
    """BIP340 with auxiliary randomness of 32 zero bytes, so that a restored hub signs the same."""
    point = multiply(G, int.from_bytes(secret, "big"))
    d = int.from_bytes(secret, "big")
    d = d if point[1] % 2 == 0 else N - d
    public = point[0].to_bytes(32, "big")
    masked = (d ^ int.from_bytes(tagged("BIP0340/aux", bytes(32)), "big")).to_bytes(32, "big")
    k = int.from_bytes(tagged("BIP0340/nonce", masked + public + message), "big") % N
    r = multiply(G, k)
    k = k if r[1] % 2 == 0 else N - k
    e = int.from_bytes(tagged("BIP0340/challenge", r[0].to_bytes(32, "big") + public + message), "big") % N
    return r[0].to_bytes(32, "big") + ((k + e * d) % N).to_bytes(32, "big")


def derive(seed, label, *parts):
    return hmac.new(seed, label.encode() + b"".join(parts), hashlib.sha256).digest()


def u32(number):
    return number.to_bytes(4, "little")


def root(first, locks):
    row = [tagged("sluice/lock-leaf", u32(first + at) + lock) for at, lock in enumerate(locks)]
    while len(row) > 1:
        pairs = [row[at : at + 2] for at in range(0, len(row), 2)]
        row = [tagged("sluice/lock-node", p[0] + p[1]) if len(p) == 2 else p[0] for p in pairs]
    return row[0]


def push(data):
    return bytes([len(data)]) + data


def script_number(number):
    if number <= 16:
        return bytes([0x50 + number])
    data = number.to_bytes((number.bit_length() + 8) // 8, "little")
    return push(data)


def claim_script(claim_key, lock):
    return push(claim_key) + b"\xad\x82" + push(b"\x20") + b"\x88\xa8" + push(lock) + b"\x87"


def recovery_script(needed, keys, delay):
    script = b""
    for at, key in enumerate(keys):
        script += push(key) + (b"\xac" if at == 0 else b"\xba")
    return script + script_number(needed) + b"\x9d" + script_number(delay) + b"\xb2"


def output(claim, recovery):
    leaves = sorted(tagged("TapLeaf", b"\xc0" + push_long(script)) for script in (claim, recovery))
    tweak = tagged("TapTweak", NUMS + tagged("TapBranch", leaves[0] + leaves[1]))
    point = add(lift(NUMS), multiply(G, int.from_bytes(tweak, "big")))
    return b"\x51\x20" + point[0].to_bytes(32, "big")


def push_long(script):
    """compact size and the script"""
    size = bytes([len(script)]) if len(script) < 253 else b"\xfd" + len(script).to_bytes(2, "little")
    return size + script


def vector(seed, magic, period_length, period, needed, members, delay):
    hub = derive(seed, "sluice/hub", magic)
    hub_id = x_only(hub)
    claim = derive(seed, "sluice/claim", magic, hub_id, u32(period))
    claim_key = x_only(claim)
    first = period * period_length
    keys = [derive(seed, "sluice/lock", magic, hub_id, u32(first + at)) for at in range(period_length)]
    locks = [sha256(key) for key in keys]
    top = root(first, locks)
    message = tagged("sluice/lock-sheet", magic + hub_id + u32(period) + claim_key + top)
    signature = sign(message, hub)
    sheet = hub_id + u32(period) + claim_key + period_length.to_bytes(2, "little") + b"".join(locks) + signature
    council = [x_only(member) for member in members]
    heights = []
    for at in sorted({0, period_length // 2, period_length - 1}):
        scripts = claim_script(claim_key, locks[at]), recovery_script(needed, council, delay)
        heights.append(
            {
                "height": first + at,
                "key": keys[at].hex(),
                "lock": locks[at].hex(),
                "claim_script": scripts[0].hex(),
                "recovery_script": scripts[1].hex(),
                "script_pubkey": output(*scripts).hex(),
            }
        )
    return {
        "seed": seed.hex(),
        "magic": magic.hex(),
        "period_length": period_length,
        "period": period,
        "council": {"needed": needed, "keys": [key.hex() for key in council], "delay": delay},
        "hub_id": hub_id.hex(),
        "claim_key": claim_key.hex(),
        "root": top.hex(),
        "signed_hash": message.hex(),
        "signature": signature.hex(),
        "promise": (hub_id + u32(period) + claim_key + top + signature).hex(),
        "sheet_sha256": sha256(sheet).hex(),
        "heights": heights,
    }


def member(number):
    return sha256(b"member %d" % number)


MAIN, SIGNET = bytes.fromhex("f9beb4d9"), bytes.fromhex("0a03cf40")
print(
    json.dumps(
        [
            vector(bytes([7] * 32), MAIN, 2016, 446, 3, [member(n) for n in range(5)], 1008),
            vector(sha256(b"another hub"), MAIN, 2016, 0, 1, [member(9)], 1008),
            vector(sha256(b"signet hub"), SIGNET, 30, 11, 2, [member(n) for n in range(3)], 10),
            vector(sha256(b"sixteen"), SIGNET, 7, 3, 16, [member(n) for n in range(16)], 65535),
            vector(sha256(b"one"), SIGNET, 1, 250, 9, [member(n) for n in range(10)], 17),
        ],
        indent=1,
    )
)
