"""Shuffles of DNA that keep its composition: of single bases, or of neighbouring pairs.

Source of the second: "Significance of nucleotide sequence alignments", Altschul and Erickson 1985: a random walk that
uses each pair of the sequence once, so every sequence with the same pairs and the same first base is as likely.
"""

import itertools
from typing import Literal

import numpy as np

Shuffle = Literal["shuffle", "dinucleotide_shuffle"]
SHUFFLES = ("shuffle", "dinucleotide_shuffle")


def shuffle_bases(sequence: str, generator: np.random.Generator) -> str:
    """The same letters in random order."""
    letters = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8).copy()
    return generator.permutation(letters).tobytes().decode("ascii")


def shuffle_dinucleotides(sequence: str, generator: np.random.Generator) -> str:
    """Letters in random order with the same counts of neighbouring pairs; first and last letter stay.

    A short sequence may have no other order than its own.
    """
    if len(sequence) < 3:
        return sequence
    followers: dict[str, list[str]] = {}
    for letter, follower in itertools.pairwise(sequence):
        followers.setdefault(letter, []).append(follower)
    last_exits = _last_exits(followers, sequence[-1], generator)
    orders = {}
    for letter, following in followers.items():
        rest = list(following)
        last = [last_exits[letter]] if letter in last_exits else []
        for one in last:
            rest.remove(one)
        order = generator.permutation(len(rest)).tolist()
        orders[letter] = iter([rest[number] for number in order] + last)
    walk = [sequence[0]]
    for _ in range(len(sequence) - 1):
        walk.append(next(orders[walk[-1]]))
    return "".join(walk)


def _last_exits(followers: dict[str, list[str]], end: str, generator: np.random.Generator) -> dict[str, str]:
    """For each letter but the last one the pair it is left by at last, drawn until all of them lead to the end."""
    while True:
        exits = {
            letter: following[int(generator.integers(len(following)))]
            for letter, following in followers.items()
            if letter != end
        }
        if all(_leads_to(letter, exits, end) for letter in exits):
            return exits


def _leads_to(letter: str, exits: dict[str, str], end: str) -> bool:
    for _ in range(len(exits)):
        letter = exits[letter]
        if letter == end:
            return True
    return False
