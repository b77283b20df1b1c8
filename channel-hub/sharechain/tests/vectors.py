#!/usr/bin/env python3
"""Writes vectors.json: the values of PROTOCOL.md, computed a second time from its text and the BIPs alone.

Nothing but Python's standard library, and the second implementation of ../../lock for keys, sheets and script_B. Run it when
PROTOCOL.md changes: python3 vectors.py > vectors.json
"""
import hashlib
import json
import pathlib
import random

# The lock crate's second implementation, without its vectors.
LOCK = pathlib.Path(__file__).parent / "../../lock/tests/vectors.py"
exec(LOCK.read_text().split("def vector(")[0])


def u8(n):
    return n.to_bytes(1, "little")


def u16(n):
    return n.to_bytes(2, "little")


def u64(n):
    return n.to_bytes(8, "little")


def u128(n):
    return n.to_bytes(16, "little")


def sha256d(data):
    return sha256(sha256(data))


def target(bits):
    size, mantissa = bits >> 24, bits & 0x7FFFFF
    return mantissa >> 8 * (3 - size) if size <= 3 else mantissa << 8 * (size - 3)


def compact(number):
    size = (number.bit_length() + 7) // 8
    mantissa = number << 8 * (3 - size) if size <= 3 else number >> 8 * (size - 3)
    if mantissa & 0x800000:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def work(bits):
    return min(2**256 // (target(bits) + 1), 2**128 - 1)


def required(p, height, time, network):
    late = time - p["genesis_time"] - p["interval"] * height
    exponent = late * 65536 // p["half_life"]
    n, f = exponent // 65536, exponent % 65536
    factor = 65536 + ((195766423245049 * f + 971821376 * f**2 + 5127 * f**3 + 2**47) >> 48)
    product = target(p["anchor"]) * factor
    asert = product << n >> 16 if n >= 0 else product >> (16 - n)
    asert = max(1, min(asert, 2**256 - 1))
    if p["retarget"] != 2:
        asert = max(asert, target(network))
    return compact(min(asert, target(p["easiest"])))


def genesis(p):
    council = p["council"]
    data = bytes.fromhex(p["magic"]) + u32(p["period"]) + u8(council["needed"]) + u8(len(council["keys"]))
    data += b"".join(bytes.fromhex(key) for key in council["keys"]) + u16(council["delay"])
    names = "genesis_time anchor easiest interval half_life window_blocks window_shares lag uncle_depth sheet_gap"
    for name in (names + " sheet_reach halving").split():
        data += u32(p[name])
    data += u8(p["max_uncles"]) + u8(p["max_outputs"]) + u64(p["limit"]) + u64(p["keep_limit"])
    return tagged("sluice/genesis", u8(2) + data + u8(p["retarget"]))


def recipient_bytes(recipient):
    kind, data = recipient
    return b"\0" + data if kind == "hub" else b"\1" + u8(len(data)) + data


def share_data(share):
    data = u8(1) + share["parent"] + u8(len(share["uncles"])) + b"".join(share["uncles"])
    data += recipient_bytes(share["recipient"]) + u32(share["bits"]) + u32(share["height"]) + u128(share["total_work"])
    data += b"\0" if share["pendings"] is None else b"\1" + share["pendings"][0] + u64(share["pendings"][1])
    return data + (b"\0" if share["sheet"] is None else b"\1" + share["sheet"]["promise"])


def compact_size(n):
    return u8(n) if n < 0xFD else b"\xfd" + u16(n)


def height_push(height):
    if height <= 16:
        return u8(0x50 + height)
    return push(height.to_bytes(height.bit_length() // 8 + 1, "little"))


class Hub:
    def __init__(self, seed, p):
        self.p, self.seed = p, seed
        self.secret = derive(seed, "sluice/hub", bytes.fromhex(p["magic"]))
        self.hub_id = x_only(self.secret)
        self.sheets = {}

    def sheet(self, period):
        if period not in self.sheets:
            magic, length = bytes.fromhex(self.p["magic"]), self.p["period"]
            claim_key = x_only(derive(self.seed, "sluice/claim", magic, self.hub_id, u32(period)))
            heights = range(period * length, (period + 1) * length)
            locks = [sha256(derive(self.seed, "sluice/lock", magic, self.hub_id, u32(at))) for at in heights]
            signed = self.hub_id + u32(period) + claim_key + root(period * length, locks)
            signature = sign(tagged("sluice/lock-sheet", magic + signed), self.secret)
            self.sheets[period] = {"claim_key": claim_key, "locks": locks, "promise": signed + signature}
        return self.sheets[period]


class Chain:
    def __init__(self, p):
        self.p, self.shares, self.scripts = p, {}, {}
        self.genesis = genesis(p)

    def ancestors(self, id):
        """From a share down, itself first, without genesis."""
        while id != self.genesis:
            yield self.shares[id]
            id = self.shares[id]["parent"]

    def height(self, id):
        return 0 if id == self.genesis else self.shares[id]["height"]

    def total_work(self, id):
        return 0 if id == self.genesis else self.shares[id]["total_work"]

    def back(self, id, steps):
        for _ in range(steps):
            if id == self.genesis:
                break
            id = self.shares[id]["parent"]
        return id

    def median_time(self, id):
        times = [share["time"] for share in self.ancestors(id)][:11]
        if len(times) < 11:
            times.append(self.p["genesis_time"])
        return sorted(times)[len(times) // 2]

    def sheet(self, hub_id, period, end):
        for at, share in enumerate(self.ancestors(end)):
            if at >= self.p["sheet_reach"]:
                return None
            sheet = share["sheet"]
            if sheet and sheet["promise"][:36] == hub_id + u32(period):
                return sheet
        return None

    def hub_script(self, sheet, block_height):
        lock = sheet["locks"][block_height % self.p["period"]]
        if lock not in self.scripts:
            council = self.p["council"]
            keys = [bytes.fromhex(key) for key in council["keys"]]
            recovery = recovery_script(council["needed"], keys, council["delay"])
            self.scripts[lock] = output(claim_script(sheet["claim_key"], lock), recovery)
        return self.scripts[lock]

    def script(self, recipient, block_height, end):
        kind, data = recipient
        if kind == "script":
            return data
        sheet = self.sheet(data, block_height // self.p["period"], end)
        return sheet and self.hub_script(sheet, block_height)

    def window(self, id):
        weights, length, total = {}, 0, 0
        if id == self.genesis:
            return weights, length, total
        needed = self.p["window_blocks"] * work(self.shares[id]["network"])
        for share in self.ancestors(id):
            own = work(share["bits"])
            weights[share["recipient"]] = weights.get(share["recipient"], 0) + own
            total += own
            for uncle in (self.shares[uncle] for uncle in share["uncles"]):
                tenth, all_of_it = work(uncle["bits"]) // 10, work(uncle["bits"])
                weights[share["recipient"]] += tenth
                weights[uncle["recipient"]] = weights.get(uncle["recipient"], 0) + all_of_it - tenth
                total += all_of_it
            length += 1
            if self.p["retarget"] != 2 and total >= needed or length == self.p["window_shares"]:
                break
        return weights, length, total

    def kept(self, a):
        """The scripts that the last change of block height paid, and its block height."""
        for at, share in enumerate(self.ancestors(a)):
            if at >= self.p["window_shares"]:
                return None
            parent = share["parent"]
            if share["block_height"] != (0 if parent == self.genesis else self.shares[parent]["block_height"]):
                return share["block_height"], {script for _, script in share["payouts"]}
        return None

    def split(self, parent, recipient, sheet, block_height, value):
        p = self.p
        a = self.back(parent, p["lag"] - 1)
        weights = self.window(a)[0]
        ranked = sorted(weights, key=lambda r: (-weights[r], recipient_bytes(r)))[: 10 * p["max_outputs"]]
        payees = [(r, weights[r], self.script(r, block_height, a)) for r in ranked]
        payees = [payee for payee in payees if payee[2]][: p["max_outputs"]]
        kept = self.kept(a)
        while payees:
            total = sum(weight for _, weight, _ in payees)
            short = []
            for at, (r, weight, _) in enumerate(payees):
                part = value * weight // total
                is_kept = kept is not None and self.script(r, kept[0], a) in kept[1]
                if part < p["limit"] and not (part >= p["keep_limit"] and is_kept):
                    short.append(at)
            if not short:
                break
            payees.pop(short[-1])
        if payees:
            parts = [value * weight // total for _, weight, _ in payees]
            parts[0] += value - sum(parts)
            return sorted(
                [(part, script) for part, (_, _, script) in zip(parts, payees)], key=lambda o: (-o[0], o[1])
            )
        kind, data = recipient
        if kind == "script":
            return [(value, data)]
        if sheet and sheet["promise"][32:36] == u32(block_height // p["period"]):
            return [(value, self.hub_script(sheet, block_height))]
        script = self.script(recipient, block_height, parent)
        return script and [(value, script)]

    def uncles(self, parent):
        line = [share["id"] for share in self.ancestors(parent)] + [self.genesis]
        counted = {uncle for id in line[: self.p["uncle_depth"]] if id != self.genesis for uncle in self.shares[id]["uncles"]}
        height = self.height(parent) + 1
        may = [
            share["id"]
            for share in self.shares.values()
            if 1 <= height - share["height"] <= self.p["uncle_depth"]
            and share["id"] not in line
            and share["parent"] in line
            and share["sheet"] is None
            and share["id"] not in counted
        ]
        may.sort(key=lambda id: self.height(id))
        return sorted(may[: self.p["max_uncles"]])

    def mine(self, parent, recipient, block_height, value, network, time, sheet=None, pendings=None):
        p = self.p
        uncles = self.uncles(parent)
        bits = required(p, self.height(parent), self.time(parent), network)
        total = self.total_work(parent) + work(bits) + sum(work(self.shares[uncle]["bits"]) for uncle in uncles)
        payouts = self.split(parent, recipient, sheet, block_height, value)
        share = dict(
            parent=parent, uncles=uncles, recipient=recipient, bits=bits, height=self.height(parent) + 1,
            total_work=total, pendings=pendings, sheet=sheet, payouts=payouts, block_height=block_height,
            network=network, time=max(time, self.median_time(parent) + 1), value=value,
        )
        share["data"] = share_data(share)
        share["commitment"] = tagged("sluice/share", share["data"])
        outputs = payouts + [
            (0, b"\x6a\x24SLCE" + share["commitment"]),
            (0, b"\x6a\x24\xaa\x21\xa9\xed" + sha256(b"witness %d" % len(self.shares))),
        ]
        script = height_push(block_height) + push(b"extranonce %d" % len(self.shares))
        coinbase = u32(2) + b"\1" + bytes(32) + b"\xff" * 4 + compact_size(len(script)) + script + b"\xff" * 4
        coinbase += u8(len(outputs)) + b"".join(u64(v) + compact_size(len(s)) + s for v, s in outputs) + u32(0)
        branch = [sha256(b"partner %d" % level) for level in range(len(self.shares) % 4)]
        top = sha256d(coinbase)
        for partner in branch:
            top = sha256d(top + partner)
        nonce = 0
        while True:
            header = u32(0x20000000) + sha256(b"block %d" % block_height) + top
            header += u32(share["time"]) + u32(network) + u32(nonce)
            share["id"] = sha256d(header)
            if int.from_bytes(share["id"], "little") <= target(bits):
                break
            nonce += 1
        share["bytes"] = header + share["data"] + u16(len(coinbase)) + coinbase + u8(len(branch)) + b"".join(branch)
        self.shares[share["id"]] = share
        return share["id"]

    def time(self, id):
        return self.p["genesis_time"] if id == self.genesis else self.shares[id]["time"]


def show(recipient):
    return recipient_bytes(recipient).hex()


def asert_vectors(rng, networks):
    vectors = []
    for anchor, easiest, interval, half_life, retarget in networks:
        p = dict(
            genesis_time=1795478400, anchor=anchor, easiest=easiest, interval=interval, half_life=half_life,
            retarget=retarget,
        )
        cases = [(0, 1795478400), (0, 0), (2**32 - 1, 2**32 - 1), (2**32 - 1, 0), (0, 2**32 - 1), (1, 1795478400)]
        for _ in range(60):
            height = rng.randrange(2**rng.randrange(1, 25))
            late = rng.randrange(-(2 ** rng.randrange(1, 16)), 2 ** rng.randrange(1, 16))
            cases.append((height, max(0, min(2**32 - 1, 1795478400 + interval * height + late))))
        for height, time in cases:
            network = rng.choice([0x170297DE, 0x1A0377AE, 0x03000001, 0x1D00FFFF, 0x207FFFFF])
            bits = required(p, height, time, network)
            vectors.append([anchor, easiest, interval, half_life, retarget, height, time, network, bits])
    return vectors


def split_vectors(rng):
    """Splits of one chain of weights each: without lag or sheets, that is, the arithmetic."""
    vectors = []
    for case in range(60):
        p = dict(limit=100_000, keep_limit=80_000, max_outputs=10)
        count = rng.randrange(1, 11)
        top = 2 ** rng.randrange(1, 100)
        weights = sorted((rng.randrange(1, top + 1) for _ in range(count)), reverse=True)
        value = rng.choice([rng.randrange(1, 150_000), rng.randrange(1, 2_000_000), rng.randrange(300_000_000, 400_000_000), 2_100_000_000_000_000])
        kept = [rng.random() < 0.5 for _ in weights]
        scripts = [b"\0\x14" + sha256(b"payee %d %d" % (case, at))[:20] for at in range(count)]

        class Stub(Chain):
            def __init__(self):
                self.p, self.genesis = dict(p, lag=1), b""

            def window(self, a):
                return {("script", s): w for s, w in zip(scripts, weights)}, count, sum(weights)

            def kept(self, a):
                return 0, {s for s, k in zip(scripts, kept) if k}

        outputs = Stub().split(b"", ("script", b"nobody"), None, 0, value)
        if outputs[0][1] == b"nobody":
            outputs = []
        ranked = sorted(zip(weights, scripts, kept), key=lambda x: (-x[0], x[1]))
        vectors.append(
            {
                "value": value,
                "payees": [[str(w), s.hex(), k] for w, s, k in ranked],
                "outputs": [[v, s.hex()] for v, s in outputs],
            }
        )
    return vectors


def chain_vectors(rng, p, length, networks):
    chain = Chain(p)
    hubs = [Hub(sha256(b"hub %d" % n), p) for n in range(2)]
    scripts = [
        ("script", b"\0\x14" + sha256(b"script 0")[:20]),
        ("script", b"\x76\xa9\x14" + sha256(b"script 1")[:20] + b"\x88\xac"),
        ("script", b"\xa9\x14" + sha256(b"script 2")[:20] + b"\x87"),
        ("script", b"\x51\x20" + sha256(b"script 3")),
        ("script", b"\0\x20" + sha256(b"script 4")),
    ]
    block_height, tip, shares, last_sheet = 13, chain.genesis, [], {}
    while len(shares) < length:
        if rng.random() < 0.25:
            block_height += 1
        parent = tip
        if len(shares) > 3 and rng.random() < 0.25:
            parent = chain.shares[tip]["parent"]
        height = chain.height(parent) + 1
        nearest = next((s["height"] for s in chain.ancestors(parent) if s["sheet"]), None)
        may_publish = nearest is None or height - nearest > p["sheet_gap"]
        who, sheet, pendings = rng.choice(scripts), None, None
        if rng.random() < 0.5:
            hub = rng.choice(hubs)
            who = ("hub", hub.hub_id)
            pendings = (sha256(b"root %d" % len(shares)), 0)
            period = block_height // p["period"] + (rng.random() < 0.3)
            carriers = [
                s["height"] for s in list(chain.ancestors(parent))[: p["sheet_reach"]]
                if s["sheet"] and s["sheet"]["promise"][:36] == hub.hub_id + u32(period)
            ]
            if may_publish and all(height - h >= p["sheet_reach"] // 2 for h in carriers):
                sheet = hub.sheet(period)
        value = 5_000_000_000 + rng.randrange(1_000_000_000)
        payouts = chain.split(parent, who, sheet, block_height, value)
        if not payouts:
            continue
        if who[0] == "hub":
            own = [v for v, s in payouts if s == chain.script(who, block_height, chain.back(parent, p["lag"] - 1))]
            pendings = (pendings[0], rng.choice([0, own[0] if own else 0]))
        time = chain.time(parent) + rng.randrange(1, 2 * p["interval"])
        id = chain.mine(parent, who, block_height, value, rng.choice(networks), time, sheet, pendings)
        share = chain.shares[id]
        if share["total_work"] > chain.total_work(tip):
            tip = id
        weights, window_length, window_work = chain.window(id)
        shares.append(
            {
                "bytes": share["bytes"].hex(),
                "body": (u16(len(sheet["locks"])) + b"".join(sheet["locks"])).hex() if sheet else "0000",
                "id": id.hex(),
                "data": share["data"].hex(),
                "commitment": share["commitment"].hex(),
                "height": share["height"],
                "block_height": block_height,
                "value": value,
                "bits": share["bits"],
                "total_work": str(share["total_work"]),
                "window": {
                    "shares": window_length,
                    "work": str(window_work),
                    "weights": [
                        [show(r), str(weights[r])]
                        for r in sorted(weights, key=lambda r: (-weights[r], recipient_bytes(r)))
                    ],
                },
                "outputs": [[v, s.hex()] for v, s in payouts],
                "is_tip": tip == id,
            }
        )
    return {"params": p, "genesis": chain.genesis.hex(), "shares": shares}


def params(**changes):
    council = [x_only(sha256(b"member %d" % n)).hex() for n in range(3)]
    small = dict(
        magic="fabfb5da", period=8, council=dict(needed=2, keys=council, delay=1008), genesis_time=1795478400,
        anchor=0x207FFFFF, easiest=0x207FFFFF, interval=30, half_life=600, window_blocks=3, window_shares=30, lag=3,
        max_uncles=3, uncle_depth=3, max_outputs=10, limit=100_000_000, keep_limit=80_000_000, sheet_gap=2,
        sheet_reach=40, halving=150, retarget=1,
    )
    return {**small, **changes}


rng = random.Random("sluice")
networks = [
    (0x1B00FFFF, 0x1C00FFFF, 30, 600, 0),
    (0x1F00FFFF, 0x1F00FFFF, 3, 60, 1),
    (0x207FFFFF, 0x207FFFFF, 30, 600, 1),
    (0x03123456, 0x1D00FFFF, 30, 600, 0),
]
testnet4 = (0x1C00FFFF, 0x1D00FFFF, 30, 600, 2)
hard = [0x1F00FFFF, 0x2000FFFF, 0x2013B13B]
print(
    json.dumps(
        {
            "asert": asert_vectors(rng, networks) + asert_vectors(random.Random("testnet4"), [testnet4]),
            "splits": split_vectors(rng),
            "chains": [
                chain_vectors(rng, params(), 48, [0x2013B13B]),
                chain_vectors(rng, params(lag=1, max_outputs=3, limit=1_000_000_000, keep_limit=500_000_000), 40, hard),
                chain_vectors(rng, params(lag=6, half_life=60, anchor=0x2007FFFF, window_shares=12), 30, hard),
                chain_vectors(rng, params(anchor=0x2007FFFF, window_shares=12, retarget=2), 30, hard + [0x207FFFFF]),
            ],
        },
        indent=None,
        separators=(",", ":"),
    ).replace('{"bytes"', '\n{"bytes"').replace('{"value"', '\n{"value"')
)
