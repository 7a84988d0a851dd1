"""The metrics of all workers on the page of their supervisor: asked over the links, merged by `http.merged_metrics`.

::

    page of the supervisor --> WorkerMetrics --call "node.metrics"--> answer_metrics of each worker
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from meshrelay.http.merged_metrics import merge_metrics
from meshrelay.interfaces import INodes

__all__ = ["METRICS_CALL", "WorkerMetrics", "answer_metrics"]

#: Answered with the text of a node's own metrics page; the payload of the question is empty.
METRICS_CALL = "node.metrics"

#: A worker that takes longer is left out: whoever reads the page gives up at about ten.
ANSWER_SECONDS = 3.0


def answer_metrics(nodes: INodes, make_page: Callable[[], bytes]) -> None:
    """Let the supervisor ask this worker for its metrics."""
    nodes.answer(METRICS_CALL, lambda node_id, payload: make_page())


class WorkerMetrics:
    """Makes the page of all.

    :param worker_ids: node IDs of all workers.
    :param own_id: of the supervisor, whose own page is merged as well.
    """

    _log = Logger()

    def __init__(
        self,
        nodes: INodes,
        clock: IReactorTime,
        worker_ids: Sequence[str],
        own_id: str,
        make_own_page: Callable[[], bytes],
    ) -> None:
        self._nodes = nodes
        self._clock = clock
        self._worker_ids = worker_ids
        self._own_id = own_id
        self._make_own_page = make_own_page

    def page(self) -> Deferred[bytes]:
        """Ask everybody.

        :returns: fires with the text of the page within `ANSWER_SECONDS`. Who did not answer is not on it.
        """
        return Deferred.fromCoroutine(self._page())

    async def _page(self) -> bytes:
        calls = [self._nodes.call(worker_id, METRICS_CALL, b"") for worker_id in self._worker_ids]
        for call in calls:
            call.addTimeout(ANSWER_SECONDS, self._clock)
        answers: list[tuple[bool, Any]] = await DeferredList(calls, consumeErrors=True)
        pages = {self._own_id: self._make_own_page()}
        for worker_id, (is_answer, answer) in zip(self._worker_ids, answers, strict=True):
            if is_answer:
                pages[worker_id] = answer
            else:
                self._log.warn("no metrics of {worker}: {why}", worker=worker_id, why=answer.getErrorMessage())
        try:
            return _merged(pages)
        except ValueError:
            # Reading takes milliseconds a page, so it is done one by one only to find out whose it is.
            return _merged({name: page for name, page in pages.items() if self._is_readable(name, page)})

    def _is_readable(self, worker_id: str, page: bytes) -> bool:
        try:
            _merged({worker_id: page})
        except ValueError as error:
            self._log.error("the metrics of {worker} cannot be read: {error}", worker=worker_id, error=str(error))
            return False
        return True


def _merged(pages: Mapping[str, bytes]) -> bytes:
    return merge_metrics({name: page.decode() for name, page in pages.items()})
