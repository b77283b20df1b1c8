#!/usr/bin/env python3
"""Writes price.json: the values of docs/price.md, computed a second time from its text alone, with exact fractions.

Nothing but Python's standard library: python3 price_vectors.py > price.json
"""
import json
from decimal import Decimal, getcontext
from fractions import Fraction
from math import floor

getcontext().prec = 60


def pplns(value, fee, window, orphaned):
    return value * (1_000_000 - fee) // 1_000_000 * (1_000_000 - orphaned) // 1_000_000, window


def too_few(found, expected):
    """P(N <= found) < 1/10,000, by the sum itself, 60 digits."""
    mean = Decimal(expected.numerator) / Decimal(expected.denominator)
    term = (-mean).exp()
    total = term
    for count in range(1, found + 1):
        term = term * mean / count
        total += term
    return total * 10_000 < 1


def quantile(expected):
    low, high = 0, floor(expected) + 1
    while low < high:
        middle = (low + high) // 2
        if too_few(middle, expected):
            low = middle + 1
        else:
            high = middle
    return low


def rates():
    for value, fee, window, orphaned, work in [
        (312_500_000, 10_000, 3 * 110 * 10**12 * 2**32, 0, 110 * 10**12 * 2**32),
        (312_500_000, 10_000, 3 * 110 * 10**12 * 2**32, 12_345, 10**15 * 600),
        (312_500_000, 0, 2**81 + 1, 0, 2**81),
        (5_000_000_000, 25_000, 240, 0, 7),
        (2_099_999_997_690_000, 123, 2**90, 999_999, 2**90 - 1),
        (1, 0, 10**30, 0, 10**30 - 1),
    ]:
        pays, per = pplns(value, fee, window, orphaned)
        yield dict(value=value, fee=fee, window=str(window), orphaned=orphaned, work=str(work), pays=pays, amount=floor(Fraction(pays * work, per)))


def factors():
    """The first count that is not too few, for means as they come (in 2^32ths)."""
    for mean in ["9", "9.2", "9.25", "10", "12.5", "20", "37.77", "100", "250.5", "1000", "6000", "20160", "65536.5"]:
        parts = floor(Fraction(mean) * 2**32)
        yield dict(expected=str(parts), enough=quantile(Fraction(parts, 2**32)))


def bounds():
    for subsidy, weight, oldest, window in [
        (312_500_000, 6_000 * 2**60, 120 * 2**60, 20_160 * 2**60),
        (312_500_000, 600, 60, 600),
        (5_000_000_000, 10**25, 10**23 + 7, 3 * 10**25 + 1),
        (312_500_000, 5, 9, 100),
    ]:
        bound = floor(Fraction(subsidy * 99 * max(0, weight - oldest), 100 * window))
        yield dict(subsidy=subsidy, weight=str(weight), oldest=str(oldest), window=str(window), bound=bound)


def shared(amounts, available):
    wished = sum(amounts)
    if wished <= available:
        return amounts, available - wished
    return [floor(Fraction(amount * available, wished)) for amount in amounts], 0


def bases():
    for bound, earned, carry in [
        (1_000_000, [300_000, 200_000, 100_000], [0, 0, 0]),
        (1_000_000, [600_000, 399_000, 200_001], [10, 20, 30]),
        (1_000_000, [600_000, 300_000, 1], [100_000, 50_000, 7]),
        (0, [5, 6], [1, 1]),
        (100, [0, 0], [300, 33]),
    ]:
        first, left = shared(earned, bound)
        second, _ = shared(carry, left)
        yield dict(bound=bound, earned=earned, carry=carry, amounts=[a + b for a, b in zip(first, second)])


def wins():
    for received, promised, due, carry in [
        (1_000_000, [300_000, 200_000], [330_000, 220_000], [0, 0]),
        (1_000_000, [600_000, 380_000], [630_000, 399_000], [0, 4_000]),
        (1_000_000, [600_000, 380_000], [610_000, 385_000], [9_000, 4_000]),
        (1_000_000, [600_000, 380_000], [590_000, 385_000], [15_000, 0]),
        (500, [100, 400], [150, 450], [1, 1]),
    ]:
        left = received - sum(promised)
        short = [max(0, d - p) for d, p in zip(due, promised)]
        before = [max(0, d + c - max(p, d)) for d, p, c in zip(due, promised, carry)]
        first, left = shared(short, left)
        second, _ = shared(before, left)
        paid = [p + a + b for p, a, b in zip(promised, first, second)]
        yield dict(received=received, promised=promised, due=due, carry=carry, paid=paid, carry_after=[max(0, d + c - p) for d, c, p in zip(due, carry, paid)])


def accrued():
    for subsidy, fees, fee, difficulty, works in [
        (312_500_000, [2_000_000 + 10_000 * n for n in range(24)], 30_000, 110 * 10**12 * 2**32, [10**6 * 2**32] * 5),
        (312_500_000, [9, 1, 5], 30_000, 10**20, [10**11, 3, 10**12]),
        (312_500_000, [1] * 10 + [100] * 12 + [7] * 12, 0, 10**9, [10**9 + 1]),
        (5_000_000_000, [], 0, 3, [1, 1, 1]),
    ]:
        newest = sorted(fees[-24:])
        middle = len(newest) // 2
        median = 0 if not newest else newest[middle] if len(newest) % 2 else (newest[middle - 1] + newest[middle]) // 2
        pays = (subsidy + median) * (1_000_000 - fee) // 1_000_000
        parts = sum(floor(Fraction(pays * 2**64 * work, difficulty)) for work in works)
        yield dict(subsidy=subsidy, fees=fees, fee=fee, difficulty=str(difficulty), works=[str(w) for w in works], pays=pays, parts=str(parts), settled=parts >> 64)


print(json.dumps(dict(rates=list(rates()), factors=list(factors()), bounds=list(bounds()), bases=list(bases()), wins=list(wins()), accrued=list(accrued())), indent=1))
