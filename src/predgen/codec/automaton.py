"""The pure part of a target automaton: what follows what, how many paths there are, and how long they are."""

from collections.abc import Mapping, Sequence
from functools import cached_property


class Automaton:
    """States and the symbols that may follow them, on the host. It has no cycle, and one accepting state, the last.

    Args:
        rows: for each state, the state after each symbol that may follow.
    """

    def __init__(self, rows: Sequence[Mapping[int, int]]) -> None:
        self.rows = rows

    @property
    def num_states(self) -> int:
        """The number of states."""
        return len(self.rows)

    @property
    def accepting_state(self) -> int:
        """The state after the end symbol, where nothing is allowed any more."""
        return len(self.rows) - 1

    @cached_property
    def backwards(self) -> list[int]:
        """The states but the accepting one, each after all that may follow it."""
        done = {self.accepting_state}
        order: list[int] = []
        stack = [0]
        while stack:
            missing = [after for after in self.rows[stack[-1]].values() if after not in done]
            if missing:
                stack.extend(missing)
                continue
            state = stack.pop()
            if state not in done:
                done.add(state)
                order.append(state)
        return order

    @property
    def num_paths(self) -> int:
        """The number of paths from the start to the accepting state."""
        counts = {self.accepting_state: 1}
        for state in self.backwards:
            counts[state] = sum(counts[after] for after in self.rows[state].values())
        return counts[0]

    @property
    def longest_path(self) -> int:
        """The number of symbols of the longest path."""
        longest = {self.accepting_state: 0}
        for state in self.backwards:
            longest[state] = 1 + max(longest[after] for after in self.rows[state].values())
        return longest[0]

    @property
    def num_decisions(self) -> int:
        """The most symbols of a path that had a choice."""
        decisions = {self.accepting_state: 0}
        for state in self.backwards:
            row = self.rows[state]
            decisions[state] = (len(row) > 1) + max(decisions[after] for after in row.values())
        return decisions[0]

    def states_that_decide(self, *, full: bool) -> list[bool]:
        """Returns for each state whether its symbol, or one further on, is a decision.

        Args:
            full: count forced symbols as decisions, as the softmax over the whole vocabulary makes them.
        """
        decides = [False] * self.num_states
        for state in self.backwards:
            row = self.rows[state]
            decides[state] = full or len(row) > 1 or any(decides[after] for after in row.values())
        return decides

    def state_after(self, prefix: Sequence[int]) -> int:
        """Returns the state after a prefix, −1 if it leads nowhere."""
        state = 0
        for symbol in prefix:
            state = self.rows[state].get(symbol, -1)
            if state < 0:
                break
        return state

    def settle(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """Returns a prefix extended by the forced symbols; a whole path, if all remaining symbols are forced."""
        settled = list(prefix)
        state = self.state_after(settled)
        while len(self.rows[state]) == 1:
            (symbol,) = self.rows[state]
            settled.append(symbol)
            state = self.rows[state][symbol]
        return tuple(settled)
