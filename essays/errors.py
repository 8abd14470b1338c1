"""Every error Fairmark raises on purpose.

FairmarkError
├── BadInput (also ValueError)      a caller's mistake; `field` names what was wrong
│   ├── ScoreOutOfRange             a score that its prompt cannot have
│   ├── UnknownPrompt               no such prompt id
│   ├── UnknownModel                no such model
│   ├── MalformedText               text that is not valid Unicode
│   ├── EssayTooLong                more characters than are accepted
│   └── UnscorableEssay             an essay that must not get a number; `reason` says which rule spoke
├── BadParams                       params.yaml or a settings file; every fault at once
├── BadCorpus                       a raw file that is missing, changed or malformed
├── BadSecret                       a secrets manager that denies, lacks or garbles a secret
├── StageFailed                     a pipeline stage whose result must not be used
├── StoreError                      the object store
│   ├── StoreUnreachable            refused, timed out, no such host
│   ├── StoreDenied                 wrong or missing credentials
│   ├── ObjectMissing               no such bucket or key
│   └── PreconditionFailed          somebody else wrote first
└── ArtifactError                   a published model that must not be served
    ├── DigestMismatch              bytes differ from what was promised
    ├── UnsafeArchive               names, links or sizes that an archive must not have
    ├── InvalidManifest             a manifest that is missing, unreadable or of an unknown schema
    ├── GraphInvalid                a graph that does not load or has other inputs than promised
    └── WarmUpFailed                golden essays got other scores than at publication
"""


class FairmarkError(Exception):
    """Base of all; its text says which thing, what is wrong, what was expected, what to do next."""


class BadInput(FairmarkError, ValueError):
    """A caller's mistake."""

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        """The argument or form field at fault, if there is one."""
        self.hint = hint
        """What to do next, in a sentence."""


class ScoreOutOfRange(BadInput):
    """A score outside its prompt's range, or between its steps."""


class UnknownPrompt(BadInput):
    """No prompt has this id."""


class UnknownModel(BadInput):
    """No model has this name."""


class MalformedText(BadInput):
    """Text that holds lone surrogates and so is no Unicode text."""


class EssayTooLong(BadInput):
    """An essay beyond the number of characters that is accepted."""


class UnscorableEssay(BadInput):
    """An essay that gets a reason instead of a score."""

    def __init__(self, message: str, *, reason: str, field: str = "essay", hint: str | None = None) -> None:
        super().__init__(message, field=field, hint=hint)
        self.reason = reason
        """One of `essays.gate.REASONS`."""


class BadParams(FairmarkError):
    """A configuration file with faults, all of them listed."""


class BadCorpus(FairmarkError):
    """A corpus file that is missing, changed or malformed."""


class BadSecret(FairmarkError):
    """A secret that cannot be had; names its id, never its value."""


class StageFailed(FairmarkError):
    """A pipeline stage whose result must not be used."""


class StoreError(FairmarkError):
    """The object store did not do what was asked."""


class StoreUnreachable(StoreError):
    """Nobody answers at the store's address."""


class StoreDenied(StoreError):
    """The store refuses these credentials."""


class ObjectMissing(StoreError):
    """No such bucket or key."""


class PreconditionFailed(StoreError):
    """A conditional write lost against another writer."""


class ArtifactError(FairmarkError):
    """A published model that must not be served."""


class DigestMismatch(ArtifactError):
    """Bytes differ from what was promised."""


class UnsafeArchive(ArtifactError):
    """An archive with names, links or sizes that are not allowed."""


class InvalidManifest(ArtifactError):
    """A manifest that is missing, unreadable or of an unknown schema."""


class GraphInvalid(ArtifactError):
    """A graph that does not load or has other inputs than promised."""


class WarmUpFailed(ArtifactError):
    """Golden essays got other scores than at publication."""
