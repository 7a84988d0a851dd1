"""Tests of `meshrelay.directory.redis_url`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.redis_url import MAX_SENTINELS, RedisPlace, is_redis_url, parse_redis_url
from meshrelay.errors import ConfigError

GOOD = {
    "redis://cache": RedisPlace((("cache", 6379),)),
    "redis://cache:7000/": RedisPlace((("cache", 7000),)),
    "redis://cache/3": RedisPlace((("cache", 6379),), db=3),
    "redis://[::1]:7000/1": RedisPlace((("::1", 7000),), db=1),
    "redis://[::1]": RedisPlace((("::1", 6379),)),
    "redis://:p%40ss@cache": RedisPlace((("cache", 6379),), password="p@ss"),
    "rediss://relay:a%3Ab:c@cache/0": RedisPlace((("cache", 6379),), user="relay", password="a:b:c", is_tls=True),
    "redis+sentinel://a:1,b/main": RedisPlace((("a", 1), ("b", 26379)), service="main"),
    "rediss+sentinel://u:p@a,[::1]:2/main/5": RedisPlace(
        (("a", 26379), ("::1", 2)), service="main", db=5, user="u", password="p", is_tls=True
    ),
}

#: URL -> what the problem says.
BAD = {
    "memcached://cache": "must begin with one of",
    "redis:cache": "must begin with one of",
    "redis://": "names no host",
    "redis://:6379": "names no host",
    "redis://cache:0": "port '0'",
    "redis://cache:65536": "port '65536'",
    "redis://cache:x": "port 'x'",
    "redis://a,b": "names several hosts",
    "redis://cache/x": "database 'x'",
    "redis://cache/-1": "database '-1'",
    "redis://cache/1/2": "more in its path",
    "redis://cache?db=1": "a query",
    "redis://cache#1": "a fragment",
    "redis://relay@cache": "user without a password",
    "redis://[::1": "cannot be read",
    # Newer Pythons find this one themselves.
    "redis://[::1]x": "mesh.directory: ",
    "redis+sentinel://a:1": "names no service",
    "redis+sentinel://a:1,/main": "names no host",
    "redis+sentinel://a/main/1/2": "more in its path",
    "redis+sentinel://" + ",".join("a" * (MAX_SENTINELS + 1)) + "/main": f"allowed are {MAX_SENTINELS}",
}


class ParseTests(SynchronousTestCase):
    """Reading URLs."""

    def test_good(self) -> None:
        """Every form that is documented is understood."""
        for url, place in GOOD.items():
            self.assertEqual((url, parse_redis_url(url)), (url, place))

    def test_bad(self) -> None:
        """A wrong URL is told with what is wrong, under the key that holds it."""
        for url, problem in BAD.items():
            error = self.assertRaises(ConfigError, parse_redis_url, url)
            self.assertEqual((url, [found.path for found in error.problems]), (url, ["mesh.directory"]))
            self.assertIn(problem, str(error), url)

    def test_which(self) -> None:
        """A directory on Redis is told from the others by its first word."""
        self.assertTrue(all(is_redis_url(url) for url in GOOD))
        self.assertFalse(any(is_redis_url(url) for url in ("memory", "pb:redis:1", "", "redis", "http://redis")))

    def test_secret(self) -> None:
        """The password is in no representation and in no problem."""
        self.assertNotIn("hunter2", repr(parse_redis_url("redis://u:hunter2@cache")))
        for url in (
            "redis://u:hunter2@cache:x",
            "redis://u:hunter2@/1",
            "redis://u:hunter2@a?b",
            "redis://u:hunter2@[a",
            "redis://u:hunter2\u2100@a",
        ):
            # What is told is never the whole URL.
            self.assertNotIn("hunter2", str(self.assertRaises(ConfigError, parse_redis_url, url)))
