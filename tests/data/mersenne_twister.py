"""The random numbers of Python and of NumPy's legacy generator, written out as an oracle."""

from __future__ import annotations


class Twister:
    """The words of the Mersenne twister (Matsumoto and Nishimura 1998), and what is made of them."""

    def __init__(self, state):
        self.state, self.place = [int(word) for word in state], 624

    @classmethod
    def numpy(cls, seed):
        """As init_genrand, which NumPy's legacy seed uses."""
        state = [seed]
        for i in range(1, 624):
            state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) % 2**32)
        return cls(state)

    @classmethod
    def python(cls, seed):
        """As init_by_array with one word, which Python's seed uses for a small number."""
        state = cls.numpy(19650218).state
        i = 1
        for _ in range(624):
            state[i] = ((state[i] ^ (state[i - 1] ^ state[i - 1] >> 30) * 1664525) + seed) % 2**32
            i += 1
            if i == 624:
                state[0], i = state[623], 1
        for _ in range(623):
            state[i] = ((state[i] ^ (state[i - 1] ^ state[i - 1] >> 30) * 1566083941) - i) % 2**32
            i += 1
            if i == 624:
                state[0], i = state[623], 1
        state[0] = 0x80000000
        return cls(state)

    def word(self):
        if self.place == 624:
            s = self.state
            for i in range(624):
                y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7FFFFFFF)
                s[i] = s[(i + 397) % 624] ^ (y >> 1) ^ (0x9908B0DF if y & 1 else 0)
            self.place = 0
        y = self.state[self.place]
        self.place += 1
        y ^= y >> 11
        y ^= (y << 7) & 0x9D2C5680
        y ^= (y << 15) & 0xEFC60000
        return y ^ y >> 18

    def randint(self, count):
        """Python's ``randint(1, count) - 1``: the top bits of a word, again while they are too large."""
        bits = count.bit_length()
        while (value := self.word() >> 32 - bits) >= count:
            pass
        return value

    def first_of_permutation(self, count):
        """The first of NumPy's legacy ``permutation(count)``: swaps from the last place down."""
        order = list(range(count))
        for i in range(count - 1, 0, -1):
            bits = i.bit_length()
            while (j := self.word() & (1 << bits) - 1) > i:
                pass
            order[i], order[j] = order[j], order[i]
        return order[0]
