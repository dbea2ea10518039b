"""A Function URL whose alias has two versions: each request reaches one of them at random, with equal weight."""

import json
import random

from recorder import Recorder


class Splitter(Recorder):
    """Serves on `url` two targets. `lists` is the index of the target that answers requests for lists; without it they are split, too.
    The choices are those of `seed`."""

    def __init__(self, targets, lists=None, seed=1):
        super().__init__(targets[0])
        self._targets = [self._target, *(self.parsed(target) for target in targets[1:])]
        self._lists, self._random = lists, random.Random(seed)
        # The method of each message, with the index of the version that it reached, in their order.
        self.routes = []

    def target_of(self, body):
        method = json.loads(body).get("method") if body else None
        choice = self._random.randrange(len(self._targets))
        if method == "tools/list" and self._lists is not None:
            choice = self._lists
        self.routes.append((method, choice))
        return self._targets[choice]

    def reached(self, method):
        """The index of the version that each request of a method reached."""
        return [choice for own, choice in self.routes if own == method]
