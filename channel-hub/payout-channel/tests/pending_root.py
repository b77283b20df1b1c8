#!/usr/bin/env python3
"""Writes pending_root.json: the values of PENDING-ROOT.md, computed a second time from its text alone.

Nothing but Python's standard library: python3 pending_root.py > pending_root.json
"""
import hashlib
import json

P = 2**256 - 2**32 - 977


def sha256(data):
    return hashlib.sha256(data).digest()


def tagged(tag, data):
    prefix = sha256(tag.encode())
    return sha256(prefix + prefix + data)


def u32(number):
    return number.to_bytes(4, "little")


def u64(number):
    return number.to_bytes(8, "little")


def payee(number):
    """The first x coordinate of the curve at or above a hash: some key, whoever has it."""
    x = int.from_bytes(sha256(b"payee %d" % number), "big") % P
    while pow(x**3 + 7, (P - 1) // 2, P) != 1:
        x = (x + 1) % P
    return x.to_bytes(32, "big")


def node(left, right):
    return tagged("sluice/pending-node", left[0] + u64(left[1]) + right[0] + u64(right[1])), left[1] + right[1]


def tree(secret, height, pendings):
    leaves = sorted((tagged("sluice/pending-salt", secret + key), key, amount) for key, amount in pendings)
    row = [(tagged("sluice/pending-leaf", salt + key + u64(amount)), amount) for salt, key, amount in leaves]
    rows = [row]
    while len(row) > 1:
        pairs = [row[at : at + 2] for at in range(0, len(row), 2)]
        row = [node(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
        rows.append(row)
    top = row[0] if row else (bytes(32), 0)
    root = tagged("sluice/pending-root", u32(height) + u32(len(leaves)) + top[0] + u64(top[1]))
    return leaves, rows, root + u64(top[1])


def proof(rows, place):
    partners, at = [], place
    for row in rows[:-1]:
        if at ^ 1 < len(row):
            partners.append(row[at ^ 1])
        at //= 2
    encoded = b"".join(hash_ + u64(sum_) for hash_, sum_ in partners)
    return u32(len(rows[0])) + u32(place) + bytes([len(partners)]) + encoded


def vector(secret, height, amounts):
    pendings = [(payee(at), amount) for at, amount in enumerate(amounts)]
    leaves, rows, root = tree(secret, height, pendings)
    return {
        "secret": secret.hex(),
        "height": height,
        "pendings": [{"payee": key.hex(), "amount": amount} for key, amount in pendings],
        "root": root.hex(),
        "leaves": [(salt + key + u64(amount)).hex() for salt, key, amount in leaves],
        "proofs": [proof(rows, place).hex() for place in range(len(leaves))],
    }


print(
    json.dumps(
        [
            vector(bytes([7] * 32), 900_000, [50_000, 1_234_567, 330]),
            vector(sha256(b"nobody"), 900_001, []),
            vector(sha256(b"one"), 1, [1]),
            vector(sha256(b"eight"), 4_294_967_295, [10**at for at in range(8)]),
            vector(sha256(b"thirteen"), 144, [2_100_000_000_000_000 - 12 * 400] + [400] * 12),
        ],
        indent=1,
    )
)
