"""Serve another image on every instance of a stack, one after the other; where one does not get ready, all go back.

Each instance's own `fairmark-switch` (deploy/cloudformation.yaml) waits for `/readyz` and brings its last image back by
itself; this brings back those that had changed already. Only a whole success is remembered for new instances. Rolling
back later is the same command with the image before.
"""

import argparse
import time
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from essays.console import run, say
from essays.errors import FairmarkError

TAG = "fairmark-stack"
_SERVES, _WENT_BACK = "Success", "Failed"
_OPEN = {"Pending", "InProgress", "Delayed", "Cancelling"}


class SwitchFailed(FairmarkError):
    """An image that is not served everywhere; the message says what is."""


def main() -> None:
    """Switch, and say what happened on each instance."""
    parser = argparse.ArgumentParser(prog="python -m deploy.aws.switch", description="Serve another image on a stack.")
    parser.add_argument("--image", required=True, help="by digest: REGISTRY/NAME@sha256:…")
    parser.add_argument("--stack", required=True, help="the stack's name, which its instances have as a tag")
    parser.add_argument("--document", required=True, help="its output SwitchDocument")
    parser.add_argument("--parameter", required=True, help="its output ImageParameter")
    options = parser.parse_args()
    run(lambda: switch_stack(options.stack, options.image, options.document, options.parameter))


def switch_stack(stack: str, image: str, document: str, parameter: str) -> None:
    """`switch` on a stack's instances. Raises SwitchFailed, also where AWS cannot be asked at all."""
    try:
        ssm, instances = boto3.client("ssm"), running_instances(boto3.client("ec2"), stack)
        switch(ssm, instances, image, document, parameter)
    except (BotoCoreError, ClientError) as error:
        raise SwitchFailed(f"AWS: {error}; run it again once that is mended") from error


def running_instances(ec2: Any, stack: str) -> list[str]:
    """The instances of a stack that could serve now, by id."""
    wanted = [{"Name": f"tag:{TAG}", "Values": [stack]}, {"Name": "instance-state-name", "Values": ["running"]}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=wanted)
    found = [instance for page in pages for held in page["Reservations"] for instance in held["Instances"]]
    return sorted(instance["InstanceId"] for instance in found)


def switch(ssm: Any, instances: list[str], image: str, document: str, parameter: str, pause_s: float = 5.0) -> None:
    """All instances serve `image` and new ones will, or all serve what they did. Raises SwitchFailed."""
    before: str = ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
    for place, instance in enumerate(instances):
        status = _status_of(ssm, instance, image, document, pause_s)
        if status != _SERVES:
            # One that failed went back by itself; what any other end has left there is not known.
            changed = instances[: place if status == _WENT_BACK else place + 1]
            left = [each for each in changed if _status_of(ssm, each, before, document, pause_s) != _SERVES]
            also = f"; {', '.join(left)} went not back either: look at their log and end them" if left else ""
            raise SwitchFailed(f"{image} did not get ready on {instance}; all serve {before} as before{also}")
    ssm.put_parameter(Name=parameter, Value=image, Overwrite=True)
    say(f"{len(instances)} instances serve {image}; before: {before}")


def _status_of(ssm: Any, instance: str, image: str, document: str, pause_s: float) -> str:
    """How the switch to this image ended on an instance, in Systems Manager's word; an error of its own is one, too."""
    try:
        status = _ended(ssm, instance, image, document, pause_s)
    except (BotoCoreError, ClientError) as error:
        status = f"unknown ({error})"
    say(f"{instance}: {image}: {status}")
    return status


def _ended(ssm: Any, instance: str, image: str, document: str, pause_s: float) -> str:
    sent = ssm.send_command(DocumentName=document, InstanceIds=[instance], Parameters={"Image": [image]})
    asked = {"CommandId": sent["Command"]["CommandId"], "InstanceId": instance}
    # Asked at once, the service may not know its own command yet.
    time.sleep(pause_s)
    while (status := str(ssm.get_command_invocation(**asked)["Status"])) in _OPEN:
        time.sleep(pause_s)
    return status


if __name__ == "__main__":
    main()
