"""The examples in a browser: a real daemon, their own pages served as their texts say, and a tab for each user."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
import time
import tomllib
from contextlib import ExitStack
from typing import Any, ClassVar, Self

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.browser import Browser, missing_browser
from tests.integration.cluster import wait_until
from tests.integration.daemon import ROOT, Daemon

EXAMPLES = ROOT / "examples"

#: Where node.js says that the node is -> the place of the daemon.
ADDRESSES = {"127.0.0.1:7000": "http", "127.0.0.1:7300": "websocket"}


class ExamplePages:
    """Serves the folder of the examples at a free loopback port; only the addresses of the node are others."""

    def __init__(self, daemon: Daemon) -> None:
        node = (EXAMPLES / "node.js").read_text(encoding="utf-8")
        for address, place in ADDRESSES.items():
            assert node.count(address) == 1, address
            node = node.replace(address, daemon.places[place])

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(EXAMPLES))

            def do_GET(self) -> None:
                if self.path != "/node.js":
                    super().do_GET()
                    return
                body = node.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/javascript")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Tabs(Browser):
    """A browser with a tab for each user."""

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def open(self, url: str) -> str:
        """Open a page in a tab of its own and return the tab."""
        tab = self.new_tab()
        self.go(url)
        return tab

    def drag(self, *places: tuple[int, int]) -> None:
        """Press the pointer at the first place of the canvas, move it over the others and let it go."""
        left, top = self.run(
            "const box = document.querySelector('canvas').getBoundingClientRect(); return [box.x, box.y]"
        )
        moves = [
            {"type": "pointerMove", "duration": 20, "x": round(left) + x, "y": round(top) + y, "origin": "viewport"}
            for x, y in places
        ]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": "pen", "parameters": {"pointerType": "mouse"}, "actions": actions}
        self._call("POST", f"{self._session}/actions", {"actions": [pointer]})

    def fill(self, form: str, **fields: str) -> None:
        """Write into the fields of a form and send it."""
        script = """
            const form = document.querySelector(arguments[0]);
            for (const [name, value] of Object.entries(arguments[1])) form.elements[name].value = value;
            form.requestSubmit();
        """
        self.run(script, form, fields)

    def click(self, selector: str) -> None:
        """Click, which only works on what can be clicked."""
        self.wait_for(f"const found = document.querySelector('{selector}'); return found && !found.disabled")
        self.run("document.querySelector(arguments[0]).click()", selector)

    def text(self, selector: str) -> str:
        """What is to be read there."""
        text: str = self.run("return document.querySelector(arguments[0]).innerText", selector)
        return text

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until `text` is among what is to be read there."""
        try:
            self.wait_for(f"return document.querySelector('{selector}').innerText.includes({text!r})")
        except AssertionError as error:
            raise AssertionError(f"{error}; there is: {self.text('body')!r}") from None

    def put_aside(self) -> None:
        """The browser puts the page of this tab aside, and with it its connection."""
        self.run("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")

    def bring_back(self) -> None:
        """The opposite."""
        self.run("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")


class BrowserCase(SynchronousTestCase):
    """A browser, and what it needs."""

    config: ClassVar[dict[str, dict[str, Any]]] = {}
    python_path = ""

    def setUp(self) -> None:
        """Start a daemon, serve the pages and open a browser."""
        missing = missing_browser()
        if missing:
            raise SkipTest(missing)
        stack = ExitStack()
        self.addCleanup(stack.close)
        self.daemon = stack.enter_context(Daemon(self.config, self.python_path))
        self.pages = ExamplePages(self.daemon)
        stack.callback(self.pages.stop)
        self.browser = stack.enter_context(Tabs())


class LobbyCase(BrowserCase):
    """The pages of examples/lobby."""

    config: ClassVar[dict[str, dict[str, Any]]] = {"app": {"module": "lobby_app"}}
    python_path = str(EXAMPLES / "lobby")

    def enter(self, user: str) -> str:
        """Open the page, come in and return the tab."""
        tab = self.browser.open(f"{self.pages.url}/lobby/")
        self.browser.wait_for("return !document.querySelector('#door').hidden")
        self.browser.fill("#door form", user=user)
        self.browser.wait_for_text("#connection", f"Connected as {user}")
        return tab

    def at_one_table(self) -> tuple[str, str]:
        """Return the tabs of ann, who opened a table, and of bob, who sits at it."""
        ann, bob = self.enter("ann"), self.enter("bob")
        self.browser.switch(ann)
        self.browser.wait_for_text("#lobby", "2 here")
        self.browser.fill("#lobby form", name="<b>chess</b>", seats="2")
        self.browser.wait_for_text("#players", "ann")
        self.browser.switch(bob)
        self.browser.wait_for_text("#tables", "<b>chess</b>\n1 of 2")
        self.browser.click("#tables button")
        self.browser.wait_for_text("#players", "bob")
        return ann, bob


class LobbyTests(LobbyCase):
    """examples/lobby."""

    def test_from_the_door_to_the_game(self) -> None:
        """Two come in, one opens a table, the other sits down; they talk, are ready, and the game begins for both."""
        ann, bob = self.at_one_table()
        browser = self.browser
        self.assertEqual(browser.text("#table-title"), "<b>chess</b>")
        browser.fill("#table form", words="<img src=x onerror=alert(1)>")
        browser.click("#ready")
        self.assertTrue(browser.run("return document.querySelector('#start').disabled"))
        browser.switch(ann)
        browser.wait_for_text("#talk", "<img src=x onerror=alert(1)>")
        browser.wait_for_text("#players", "bob\nready")
        browser.click("#ready")
        browser.click("#start")
        browser.wait_for_text("#order", "The game has begun")
        order = browser.text("#order")
        browser.switch(bob)
        browser.wait_for_text("#order", order)
        self.enter("eve")
        browser.wait_for_text("#tables", "<b>chess</b>\nplaying")
        self.assertTrue(browser.run("return document.querySelector('#tables button').disabled"))
        self.assertEqual(browser.errors(), [])

    def test_getting_up(self) -> None:
        """Who gets up is in the lobby again, and the other owns the table; a full table has no seat for a third."""
        ann, bob = self.at_one_table()
        browser = self.browser
        self.enter("eve")
        browser.wait_for_text("#tables", "2 of 2")
        self.assertTrue(browser.run("return document.querySelector('#tables button').disabled"))
        browser.switch(ann)
        browser.click("#leave")
        browser.wait_for_text("#tables", "1 of 2")
        browser.switch(bob)
        browser.wait_for_text("#players", "bob\nnot ready, owner")
        self.assertEqual(browser.errors(), [])

    def test_refused(self) -> None:
        """What the application refuses is said on the page, in its words."""
        self.at_one_table()
        script = """
            document.querySelector('#start').disabled = false;
            document.querySelector('#start').click();
        """
        self.browser.run(script)
        self.browser.wait_for_text("#problem", "only the owner of the table may start")

    def test_back_in_time(self) -> None:
        """A page that loses its connection for a moment still sits at its table, and has what was said meanwhile."""
        ann, bob = self.at_one_table()
        browser = self.browser
        browser.put_aside()
        browser.wait_for_text("#connection", "SUSPENDED")
        browser.switch(ann)
        browser.fill("#table form", words="where are you?")
        browser.switch(bob)
        browser.bring_back()
        browser.wait_for_text("#talk", "where are you?")
        self.assertIn("bob", browser.text("#players"))
        self.assertEqual(browser.errors(), [])


class LobbyAwayTests(LobbyCase):
    """examples/lobby with users who are away for longer than a session."""

    config: ClassVar[dict[str, dict[str, Any]]] = {"app": {"module": "lobby_app"}, "session": {"resume_seconds": 2}}

    def test_closed_tab(self) -> None:
        """The seat of a tab that was closed is kept for as long as the session, then the others see it free."""
        ann, _ = self.at_one_table()
        browser = self.browser
        browser.run("location.href = 'about:blank'")
        closed_at = time.monotonic()
        browser.switch(ann)
        browser.wait_for("return !document.querySelector('#players').innerText.includes('bob')")
        self.assertGreater(time.monotonic() - closed_at, 1.5)

    def test_back_too_late(self) -> None:
        """A page that is away for longer than a session finds its seat free and itself in the lobby."""
        ann, bob = self.at_one_table()
        browser = self.browser
        browser.put_aside()
        browser.switch(ann)
        browser.wait_for("return !document.querySelector('#players').innerText.includes('bob')")
        browser.switch(bob)
        browser.bring_back()
        browser.wait_for_text("#tables", "1 of 2")
        self.assertEqual(browser.errors(), [])


class BoardCase(BrowserCase):
    """A board in tabs."""

    def open_board(self, address: str = "") -> str:
        """Open the page, wait until it has the picture and return the tab."""
        tab = self.browser.open(address or f"{self.pages.url}/whiteboard/")
        self.browser.wait_for_text("#connection", "Connected as")
        return tab

    def picture(self) -> str:
        """What is on the board of this tab, pixel by pixel."""
        picture: str = self.browser.run("return document.querySelector('canvas').toDataURL()")
        return picture

    def wait_for_picture(self, picture: str) -> None:
        """Wait until this tab has the very same."""
        self.browser.wait_for("return document.querySelector('canvas').toDataURL() === '" + picture + "'")

    def draw_as_machine(self) -> None:
        """Draw as many pieces as a pen makes in ten minutes, in the way in which the page itself tells them."""
        script = """
            const { Client, NODE_URL } = await import("../node.js");
            const client = new Client(NODE_URL, { user: "machine" });
            await client.connect();
            const board = location.hash.slice(1);
            await client.joinGroup(board);
            const points = Array.from({ length: 20 }, (_, index) => index * 7);
            for (let at = 1; at <= 2000; at += 1) {
              const place = points.map((number) => (number * at) % 600);
              await client.broadcast(board, JSON.stringify({ draw: { at, colour: at % 5, width: 2, points: place } }));
            }
            await client.close();
        """
        self.browser.run(f"return (async () => {{ {script} }})()")


class WhiteboardTests(BoardCase):
    """examples/whiteboard, with a node that has nothing to do with it."""

    config: ClassVar[dict[str, dict[str, Any]]] = {"session": {"resume_seconds": 2}}

    def two_boards(self) -> tuple[str, str, str]:
        """Return two tabs with the same board, and its address. The second one is in front."""
        one = self.open_board()
        address: str = self.browser.run("return location.href")
        self.assertRegex(address, r"#\S{52}$")
        return one, self.open_board(address), address

    def test_two_draw(self) -> None:
        """What one draws the other sees, both ways, also where lines cross; and so does a board that is cleared."""
        one, two, _ = self.two_boards()
        browser = self.browser
        empty = self.picture()
        browser.drag((50, 50), (150, 90), (300, 60))
        browser.switch(one)
        browser.wait_for("return document.querySelector('canvas').toDataURL() !== '" + empty + "'")
        browser.run("document.querySelectorAll('[name=colour]')[1].click()")
        browser.drag((60, 40), (150, 120), (250, 40))
        browser.drag((200, 100))
        drawn = self.picture()
        browser.switch(two)
        self.wait_for_picture(drawn)
        browser.click("#clear")
        self.assertEqual(self.picture(), empty)
        browser.switch(one)
        self.wait_for_picture(empty)
        self.assertEqual(browser.errors(), [])

    def test_late(self) -> None:
        """Who comes late gets the whole picture, though it is larger than any message may be; also from a late one."""
        one, two, address = self.two_boards()
        browser = self.browser
        self.draw_as_machine()
        browser.drag((50, 50), (150, 90))
        browser.switch(one)
        browser.wait_for_text("#connection", "Connected as")
        two_has = self.shown_in(two)
        browser.switch(one)
        self.wait_for_picture(two_has)
        three = self.open_board(address)
        self.wait_for_picture(two_has)
        for tab in (one, two):
            browser.switch(tab)
            browser.run("location.href = 'about:blank'")
        browser.switch(three)
        self.open_board(address)
        self.wait_for_picture(two_has)
        self.assertEqual(browser.errors(), [])

    def shown_in(self, tab: str) -> str:
        """The picture of another tab."""
        self.browser.switch(tab)
        return self.picture()

    def test_drawn_without_connection(self) -> None:
        """What is drawn while the connection is away comes to the others with it, and the other way round."""
        self.come_back(is_late=False)

    def test_drawn_without_session(self) -> None:
        """So it does when the session is over and the page has to join again."""
        self.come_back(is_late=True)

    def come_back(self, is_late: bool) -> None:
        """Draw at both ends of a broken connection, if late until the session is over, and compare."""
        one, two, _ = self.two_boards()
        browser = self.browser
        browser.drag((50, 50), (150, 90))
        browser.put_aside()
        browser.wait_for_text("#connection", "SUSPENDED")
        browser.drag((90, 50), (20, 90))
        browser.switch(one)
        browser.drag((200, 50), (300, 90))
        if is_late:
            wait_until(lambda: self.daemon.metric("meshrelay_sessions_away") == 0, what="the end of a session")
        browser.switch(two)
        browser.bring_back()
        browser.wait_for_text("#connection", "Connected as")
        wait_until(lambda: self.shown_in(one) == self.shown_in(two), what="the same picture in both")
        self.assertEqual(browser.errors(), [])
        self.assertEqual(self.drawn_at([100, 70], [55, 70], [250, 70], [600, 70]), [True, True, True, False])

    def drawn_at(self, *places: list[int]) -> list[bool]:
        """Whether there is a line at places of the canvas, as it is seen."""
        script = """
            const canvas = document.querySelector("canvas");
            const scale = canvas.width / canvas.getBoundingClientRect().width;
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const pixel = ([x, y]) => Math.round(y * scale) * canvas.width + Math.round(x * scale);
            return arguments[0].map((place) => data[pixel(place) * 4 + 3] > 0);
        """
        drawn: list[bool] = self.browser.run(script, places)
        return drawn

    def as_eve(self, script: str) -> None:
        """Run a script in the page of this tab as another member of its board, who has a client and a line."""
        before = """
            const { Client, NODE_URL } = await import("../node.js");
            const client = new Client(NODE_URL, { user: "eve" });
            await client.connect();
            const board = location.hash.slice(1);
            await client.joinGroup(board);
            const line = { at: 1, colour: 1, width: 40, points: [10, 10, 90, 90] };
            const draw = (changes) => client.broadcast(board, JSON.stringify({ draw: { ...line, ...changes } }));
        """
        self.browser.run(f"return (async () => {{ {before} {script} await client.close(); }})()")

    def test_in_the_name_of_another(self) -> None:
        """Who draws is who the node says, whatever the message says: here it is one who uses a number twice."""
        self.two_boards()
        self.as_eve("""
            await draw({ at: 5, user: "ann", points: [20, 50, 300, 50] });
            await draw({ at: 5, user: "bob", points: [20, 200, 300, 200] });
            await draw({ at: 6, points: [20, 350, 300, 350] });
        """)
        self.browser.wait_for_text("#connection", "Connected")
        scale = self.browser.run("return document.querySelector('canvas').getBoundingClientRect().width / 960")
        places = [[round(100 * scale), round(y * scale)] for y in (50, 200, 350)]
        wait_until(lambda: self.drawn_at(places[2])[0], what="the last line")
        self.assertEqual(self.drawn_at(*places), [True, False, True])

    def test_nonsense(self) -> None:
        """What others send that is no drawing is passed over."""
        _, _, address = self.two_boards()
        browser = self.browser
        before = self.picture()
        script = """
            const wrong = [
              { at: -1 }, { at: 1.5 }, { at: "1" }, { at: 1e300 },
              { colour: 9 }, { colour: "red" }, { colour: "1" }, { colour: "length" }, { width: 1e9 }, { width: null },
              { points: [] }, { points: [1] }, { points: [1, null] }, { points: [1, 1e9] }, { points: "1,2" },
              { points: Array(10000).fill(1) },
            ];
            for (const each of wrong) await draw(each);
            for (const each of ["", "{", "null", "[]", "1", '{"draw": null}', '{"draw": 7}', new Uint8Array([255])]) {
              await client.broadcast(board, each || " ");
            }
        """
        self.as_eve(script)
        self.open_board(address)
        self.wait_for_picture(before)
        # Three of them cannot be read at all, by any of the pages; each says so.
        errors = [each for each in browser.errors() if "passed over what eve sent" not in each]
        self.assertEqual(errors, [])


class KeptBoardTests(BoardCase):
    """examples/whiteboard, with a node that keeps what is drawn."""

    config: ClassVar[dict[str, dict[str, Any]]] = {
        **tomllib.loads((EXAMPLES / "whiteboard" / "meshrelay.toml").read_text(encoding="utf-8")),
        "session": {"resume_seconds": 2},
    }

    def test_outlives_its_pages(self) -> None:
        """Who comes when all others have gone has all that was drawn, with nobody to wait for."""
        one = self.open_board()
        browser = self.browser
        address: str = browser.run("return location.href")
        browser.drag((50, 50), (150, 90))
        self.draw_as_machine()
        browser.drag((60, 40), (150, 120))
        drawn = self.picture()
        two = self.open_board(address)
        self.wait_for_picture(drawn)
        for tab in (one, two):
            browser.switch(tab)
            browser.run("location.href = 'about:blank'")
        started = time.monotonic()
        self.open_board(address)
        # Who waits for a picture waits for six seconds.
        self.assertLess(time.monotonic() - started, 5.5)
        self.wait_for_picture(drawn)
        self.assertEqual(browser.errors(), [])


class PictureTests(SynchronousTestCase):
    """examples/whiteboard/picture.js, under Node."""

    def test_any_order(self) -> None:
        """Pieces make the same picture in whatever order they come, twice or once, however many there are."""
        if shutil.which("node") is None:
            raise SkipTest("missing: node")
        script = """
            import assert from "node:assert";
            import { MAX_PIECES, Picture, readPiece } from "./picture.js";
            let seed = 7;
            const random = (most) => (seed = (seed * 48271) % 2147483647) % most;
            const line = (at, user) => ({ at, user, colour: at % 5, width: 1, points: [at, at] });
            for (let round = 0; round < 300; round += 1) {
              const pieces = Array.from({ length: 30 }, () => {
                const [at, user] = [1 + random(12), "abc"[random(3)]];
                // One drawer never gives a number twice, so what is drawn follows from the two.
                const isClear = at % 5 === 0 && user === "b";
                return readPiece(isClear ? { at, user, clear: true } : line(at, user));
              });
              const one = new Picture();
              pieces.forEach((piece) => one.add(piece));
              const other = new Picture();
              const drawn = pieces.map((piece) => [random(1000), piece]).sort(([a], [b]) => a - b);
              drawn.forEach(([, piece]) => other.add(piece));
              pieces.forEach((piece) => other.add(piece));
              assert.deepEqual(one.pieces, other.pieces);
              assert.equal(one.nextAt(), Math.max(...pieces.map(({ at }) => at)) + 1);
            }
            const full = new Picture();
            for (let at = 1; at <= MAX_PIECES + 10; at += 1) full.add(line(at, "a"));
            assert.equal(full.pieces.length, MAX_PIECES);
            assert.equal(full.pieces[0].at, 11);
            assert.equal(new Picture().add(line(1, "a")), "top");
        """
        done = subprocess.run(
            ["node", "--input-type=module", "-e", script],
            cwd=EXAMPLES / "whiteboard",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
