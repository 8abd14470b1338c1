"""What a client can run into.

ClientError (essays.errors.FairmarkError)
├── ServiceAway     nobody answers at the address, or no longer
├── ServiceBusy     it answers that it cannot just now, for longer than one wanted to wait
├── Refused         it answers with an error that asking again will not change
├── BadAnswer       what answers is no Fairmark
└── WrongInput      a file to read or to write that is not what it should be
"""

from essays.errors import FairmarkError
from fairmark.answers import ErrorDetail


class ClientError(FairmarkError):
    """The client cannot do what was asked."""


class ServiceAway(ClientError):
    """Nobody answers."""

    retry_after_s = 0.0


class ServiceBusy(ClientError):
    """The service is overloaded or not ready."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds that the service asked to wait; 0 when it did not say."""


class Refused(ClientError):
    """The request is wrong; `detail` says in what."""

    def __init__(self, status: int, detail: ErrorDetail) -> None:
        super().__init__(f"{detail.message}; {detail.hint}" if detail.hint else detail.message)
        self.status = status
        """HTTP's."""
        self.detail = detail


class BadAnswer(ClientError):
    """Another program answers at this address, or a version that cannot be understood."""


class WrongInput(ClientError):
    """A file that cannot be read or must not be written."""
