"""Tests of `meshrelay.client.errors`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.errors import ConnectionLost, SignInRefused, TooManyPending, UnsentFull, command_error
from meshrelay.errors import (
    AlreadyMember,
    CommandError,
    DeliveryError,
    DirectMessageError,
    ErrorCode,
    GroupJoinError,
    GroupNotFound,
    InternalError,
    MalformedPayload,
    MessageIsEmpty,
    NodeDraining,
    NodeOffline,
    NodesNotFound,
    NotMember,
    RateLimited,
    Refused,
    TimedOut,
    UnknownCommand,
    UserDeclined,
    UserNotFound,
)
from meshrelay.model import Status


class CommandErrorTests(SynchronousTestCase):
    """What the node refuses."""

    def test_each_code_has_its_class(self) -> None:
        """A program catches the class that the documentation names for a code."""
        for code, error_class in {
            1: MalformedPayload,
            2: UnknownCommand,
            4: RateLimited,
            6: TimedOut,
            7: InternalError,
            8: Refused,
            9: NodeDraining,
            12: NodeOffline,
            20: AlreadyMember,
            21: GroupNotFound,
            22: NotMember,
            30: UserNotFound,
            31: MessageIsEmpty,
            32: NodesNotFound,
            33: UserDeclined,
        }.items():
            error = command_error(Status.BAD, code, "because")
            self.assertIs(type(error), error_class, code)
            self.assertEqual((error.code, error.text, str(error)), (code, "because", "because"))

    def test_family(self) -> None:
        """Errors of joining are caught together."""
        self.assertIsInstance(command_error(Status.BAD, 21, ""), GroupJoinError)

    def test_family_of_direct_messages(self) -> None:
        """Errors of direct messages are caught together; a time-out that a node tells is like any other."""
        for code in (30, 31, 32, 33):
            self.assertIsInstance(command_error(Status.BAD, code, ""), DirectMessageError, code)
        self.assertIs(type(command_error(Status.ERROR, 6, "")), TimedOut)

    def test_known_code_without_a_class(self) -> None:
        """A code that has no class of its own here is a plain CommandError with that code."""
        classes = {command_error(Status.BAD, code, "x").code for code in ErrorCode}
        self.assertEqual(classes, set(ErrorCode))

    def test_code_of_a_newer_node(self) -> None:
        """An unknown code is kept as its number."""
        error = command_error(Status.ERROR, 999, "new")
        self.assertIs(type(error), CommandError)
        self.assertEqual((error.code, error.text, error.status), (999, "new", Status.ERROR))

    def test_whose_fault(self) -> None:
        """The status of the response decides whose fault it was."""
        self.assertIs(command_error(Status.ERROR, 8, "x").status, Status.ERROR)
        self.assertIs(command_error(Status.BAD, 8, "x").status, Status.BAD)


class OwnErrorTests(SynchronousTestCase):
    """What goes wrong at the client's end."""

    def test_retryable(self) -> None:
        """What may be tried again is a DeliveryError."""
        for error in (ConnectionLost(4000, "draining"), TooManyPending(2), UnsentFull(1, 2)):
            self.assertIsInstance(error, DeliveryError)

    def test_texts(self) -> None:
        """The texts carry the facts."""
        self.assertEqual(str(ConnectionLost(4000, "draining")), "connection lost: 4000 draining")
        self.assertEqual(str(ConnectionLost(None, "broken")), "connection lost: broken")
        refused = SignInRefused("tcp://h:1", 4501, "sign-in refused")
        self.assertEqual(str(refused), "cannot connect to tcp://h:1: 4501 sign-in refused")
