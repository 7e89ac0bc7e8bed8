"""`featstore forget` and `remove`, cut short at any step: what is left is sound, and one more run does the rest."""

import os
import shutil

import numpy as np

from featstore.heads import Head
from featstore.store import FeatureStore
from torture.harness import rows_of

HEADS = ("knn", "centroid", "ridge")


class Removals:
    """Commands on a store of a workshop with several segments and heads."""

    def __init__(self, shop):
        self.shop = shop
        self.before = shop.place()
        shop.fold_apart(self.before)
        for head in HEADS:
            assert shop.run(["fit", self.before, "--head", head, "--quiet"]).status == 0
        self.space = FeatureStore(self.before).space_names[0]
        head = Head.load(FeatureStore(self.before).head_path("knn"))
        table = FeatureStore(self.before).table()
        self.content = str(table.content_hash[np.flatnonzero(head.was_fitted_on(table))[0]])
        self.expected = {}
        for name in ("forget", "remove"):
            store = shutil.copytree(self.before, shop.place())
            assert shop.run(self.arguments(name, store)).status == 0
            self.expected[name] = self.state(store)
            self.check(name, store, is_done=True)

    def arguments(self, name, store):
        """Return the command line; what has been removed from the store already cannot be named."""
        if name == "forget":
            return ["forget", store, self.content, "--yes"]
        opened = FeatureStore(store)
        named = [("--space", self.space in opened.space_names, self.space)]
        named += [("--head", head in opened.head_names, head) for head in HEADS[:2]]
        words = [word for option, is_there, one in named if is_there for word in (option, one)]
        return ["remove", store, *words, "--yes"] if words else ["info", store]

    def steps(self, name):
        """Return the steps of a command that is not disturbed."""
        store = shutil.copytree(self.before, self.shop.place())
        return self.shop.run(self.arguments(name, store)).steps

    def state(self, store):
        """Return what a store holds, whatever its segments are called."""
        opened = FeatureStore(store)
        heads = {}
        for name in opened.head_names:
            with open(opened.head_path(name), "rb") as file:
                heads[name] = file.read()
        return (
            rows_of(opened) if opened.space_names else {},
            heads,
            sorted(zip(opened.catalog().paths, map(bytes, opened.catalog().content_hash), strict=True)),
            sorted(os.listdir(store)),
        )

    def cut(self, store, *, name, at, how):
        """Let something happen at a step; check what is left, and that one more run ends as if it had not."""
        shutil.copytree(self.before, store)
        run = self.shop.run(self.arguments(name, store), at=at, how=how)
        if how == "full":
            assert run.status == 1, (run.last_step, run.stdout)
            assert len(run.stderr.splitlines()) == 1, run.stderr
            assert "no space left on device" in run.stderr
        else:
            assert run.status == -9, (run.status, run.stderr)
        self.check(name, store, told=run.last_step)
        again = self.shop.run(self.arguments(name, store))
        assert again.status == 0, (run.last_step, again.stderr)
        self.check(name, store, is_done=True, told=run.last_step)
        shutil.rmtree(store)
        return run

    def check(self, name, store, *, is_done=False, told=None):
        """Check that nothing is lost or wrong but what was to be removed, and whether that is."""
        opened = FeatureStore(store)
        report = opened.verify()
        assert report.ok, (told, report.damaged)
        rows = rows_of(opened) if opened.space_names else {}
        assert all(self.shop.rows[key] == row for key, row in rows.items()), told
        if name == "forget":
            kept = {key for key in self.shop.rows if not key.startswith(bytes.fromhex(self.content))}
            assert kept <= rows.keys(), told
        if is_done:
            assert self.state(store) == self.expected[name], told
            if name == "forget":
                assert opened.find_traces(self.content).traces == (), told
