"""Switching the image of a stack, on moto: it keeps commands and parameters, and runs nothing on its instances."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.ssm.models import ssm_backends

from deploy.aws import signing_key
from deploy.aws.switch import SwitchFailed, running_instances, switch, switch_stack
from essays.errors import BadSecret

REGION = "eu-central-1"
NEW, OLD = (f"1.dkr.ecr.{REGION}.amazonaws.com/fairmark@sha256:{digit * 64}" for digit in "ab")
PARAMETER = "/fairmark/ours/image"
THROTTLED = "ThrottlingException"


@pytest.fixture(scope="module")
def account() -> Iterator[None]:
    """Two instances of the stack and one of another's."""
    # Moto puts keys of its own into the environment, and takes them out: what is set here must be set before.
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        with mock_aws():
            ec2 = boto3.client("ec2")
            image_id = ec2.describe_images()["Images"][0]["ImageId"]
            for stack, num in (("ours", 2), ("another", 1)):
                tags = [{"ResourceType": "instance", "Tags": [{"Key": "fairmark-stack", "Value": stack}]}]
                ec2.run_instances(ImageId=image_id, MinCount=num, MaxCount=num, TagSpecifications=tags)
            yield


@pytest.fixture
def ssm(account: None) -> Any:
    """The stack serves the old image."""
    client = boto3.client("ssm")
    client.put_parameter(Name=PARAMETER, Value=OLD, Type="String", Overwrite=True)
    return client


class Watched:
    """A client that remembers what it sent; on one instance one image ends otherwise, as moto's never do."""

    def __init__(self, ssm: Any, fails: tuple[str, str] | None = None, status: str = "Failed") -> None:
        self._ssm, self._fails, self._status = ssm, fails, status
        self.sent: list[tuple[str, str]] = []
        """Image and instance of each command, in order."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ssm, name)

    def send_command(self, **options: Any) -> Any:
        (image,), (instance,) = options["Parameters"]["Image"], options["InstanceIds"]
        self.sent.append((image, instance))
        if (image, instance, self._status) == (*(self._fails or ()), THROTTLED):
            raise ClientError({"Error": {"Code": THROTTLED, "Message": "Rate exceeded"}}, "SendCommand")
        answer = self._ssm.send_command(**options)
        if (image, instance) == self._fails:
            command = ssm_backends["123456789012"][REGION].get_command_by_id(answer["Command"]["CommandId"])
            for invocation in command.invocations:
                invocation["Status"] = self._status
        return answer


@pytest.fixture
def instances(ssm: Any) -> list[str]:
    return running_instances(boto3.client("ec2"), "ours")


def switch_to(ssm: Any, instances: list[str], image: str) -> None:
    switch(ssm, instances, image, "Switch", PARAMETER, pause_s=0)


def remembered(ssm: Any) -> str:
    return ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"]


def test_one_instance_after_another_of_this_stack_alone(ssm: Any, instances: list[str]) -> None:
    assert len(instances) == 2
    watched = Watched(ssm)
    switch_to(watched, instances, NEW)
    assert watched.sent == [(NEW, instance) for instance in instances]
    assert remembered(ssm) == NEW


def test_an_image_that_does_not_get_ready_stops_there_brings_all_back_and_is_not_remembered(
    ssm: Any, instances: list[str]
) -> None:
    first, second = instances
    watched = Watched(ssm, fails=(NEW, second))
    with pytest.raises(SwitchFailed, match=f"did not get ready on {second}; all serve .* as before$"):
        switch_to(watched, instances, NEW)
    assert watched.sent == [(NEW, first), (NEW, second), (OLD, first)]
    assert remembered(ssm) == OLD


def test_an_instance_of_which_nothing_is_known_is_brought_back_too(ssm: Any, instances: list[str]) -> None:
    first, second = instances
    watched = Watched(ssm, fails=(NEW, second), status="TimedOut")
    with pytest.raises(SwitchFailed, match=f"did not get ready on {second}; all serve .* as before$"):
        switch_to(watched, instances, NEW)
    assert watched.sent == [(NEW, first), (NEW, second), (OLD, first), (OLD, second)]


def test_an_error_of_aws_in_the_middle_brings_back_who_had_changed(ssm: Any, instances: list[str]) -> None:
    first, second = instances
    watched = Watched(ssm, fails=(NEW, second), status=THROTTLED)
    with pytest.raises(SwitchFailed, match=f"did not get ready on {second}; all serve .* as before$"):
        switch_to(watched, instances, NEW)
    assert watched.sent == [(NEW, first), (NEW, second), (OLD, first), (OLD, second)]
    assert remembered(ssm) == OLD


def test_where_aws_cannot_be_asked_it_is_said_in_words(account: None) -> None:
    with pytest.raises(SwitchFailed, match=r"^AWS: .*ParameterNotFound.*; run it again once that is mended$"):
        switch_stack("ours", NEW, "Switch", "/fairmark/nowhere/image")


def test_where_nothing_runs_yet_the_image_is_remembered(ssm: Any) -> None:
    watched = Watched(ssm)
    switch_to(watched, [], NEW)
    assert (watched.sent, remembered(ssm)) == ([], NEW)


def test_the_signing_key_is_for_this_user_alone_and_never_shown(ssm: Any, tmp_path: Path) -> None:
    secrets = boto3.client("secretsmanager")
    secrets.create_secret(Name="wrong", SecretString="hush")
    with pytest.raises(BadSecret) as raised:
        signing_key.fetch("wrong", tmp_path / "wrong.pem")
    assert "hush" not in str(raised.value)
    secrets.create_secret(Name="signing", SecretString="-----BEGIN PRIVATE KEY-----\nours\n-----END PRIVATE KEY-----\n")
    signing_key.fetch("signing", tmp_path / "signing.pem")
    assert (tmp_path / "signing.pem").stat().st_mode & 0o777 == 0o600
