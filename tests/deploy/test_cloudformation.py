"""The CloudFormation template: without a fault for cfn-lint, and created, looked at and deleted on moto.

moto knows no bucket policy, no identity provider and no secret of CloudFormation; cfn-lint checks those, and the secret
is made here from what the template says and read by the service's own settings.
"""

import ast
import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cfnlint import decode
from moto import mock_aws

from essays.settings import load_settings
from serving.access import ApiKey
from serving.config import ServingSettings

TEMPLATE = Path("deploy/cloudformation.yaml")
REGION = "eu-central-1"
DIGEST = "0f" * 32
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/fairmark@sha256:{DIGEST}"
GPU_IMAGE = "/test/gpu-image"

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*not supported by moto:UserWarning"),
]


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """An account with nothing in it but the network that it comes with."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        with mock_aws():
            image = client("ec2").describe_images()["Images"][0]["ImageId"]
            client("ssm").put_parameter(Name=GPU_IMAGE, Value=image, Type="String")
            yield


@pytest.fixture(scope="module")
def outputs(aws: None) -> dict[str, str]:
    """What the stack `fairmark` says of itself."""
    return create("fairmark")


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def create(name: str, **options: str) -> dict[str, str]:
    """A stack of this name; its outputs."""
    subnets = client("ec2").describe_subnets()["Subnets"]
    wanted = {
        "VpcId": subnets[0]["VpcId"],
        "PublicSubnetIds": ",".join(subnet["SubnetId"] for subnet in subnets[:2]),
        "InstanceSubnetIds": ",".join(subnet["SubnetId"] for subnet in subnets[:2]),
        "CertificateArn": client("acm").request_certificate(DomainName="scores.example.org")["CertificateArn"],
        "ApiKeySha256": "ab" * 32,
        "SigningPublicKey": base64.b64encode(b"a public key").decode(),
        "Image": IMAGE,
        "GitHubRepository": "ours/fairmark",
        **options,
    }
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in wanted.items()]
    # moto has no public parameter of the GPU's image, and reads defaults even of what is not asked for.
    body = re.sub("/aws/service/deeplearning/.*", GPU_IMAGE, TEMPLATE.read_text("utf-8"))
    client("cloudformation").create_stack(
        StackName=name, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
    )
    (stack,) = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def resource(stack: str, logical_id: str) -> str:
    """The physical id of a resource."""
    listed = client("cloudformation").list_stack_resources(StackName=stack)["StackResourceSummaries"]
    return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in listed}[logical_id]


def launch_data(stack: str) -> dict[str, Any]:
    """What a new instance of a stack begins with."""
    versions = client("ec2").describe_launch_template_versions(LaunchTemplateId=resource(stack, "Launch"))
    return versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]


def statements(role_arn: str) -> dict[str, dict[str, Any]]:
    """What a role may do, by statement."""
    iam, name = client("iam"), role_arn.rpartition("/")[2]
    assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []
    (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
    document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
    # moto keeps a role's inline policy as Python prints it.
    document = ast.literal_eval(document) if isinstance(document, str) else document
    assert {statement["Effect"] for statement in document["Statement"]} == {"Allow"}
    return {statement["Sid"]: statement for statement in document["Statement"]}


def template() -> dict[str, Any]:
    loaded, faults = decode.decode(str(TEMPLATE))
    assert faults == []
    return loaded


def test_cfn_lint_finds_nothing() -> None:
    command = [Path(sys.executable).with_name("cfn-lint"), "--include-checks", "W", "--", TEMPLATE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_instances_begin_with_what_the_stack_was_told(outputs: dict[str, str]) -> None:
    (group,) = client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["MinSize"], group["MaxSize"], group["HealthCheckType"]) == (2, 4, "ELB")
    data = launch_data("fairmark")
    assert data["InstanceType"] == "c7a.large"
    metadata = data["MetadataOptions"]
    assert (metadata["HttpTokens"], metadata["HttpPutResponseHopLimit"]) == ("required", 1)
    assert data["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    user_data = base64.b64decode(data["UserData"]).decode()
    assert f"FAIRMARK_STORE__URL={outputs['StoreUrl']}\n" in user_data
    assert "VARIANT=cpu\n" in user_data
    assert subprocess.run(["bash", "-n"], input=user_data, text=True).returncode == 0
    parameter = client("ssm").get_parameter(Name=outputs["ImageParameter"])["Parameter"]
    assert parameter["Value"] == IMAGE


def test_the_bucket_is_encrypted_versioned_and_closed(outputs: dict[str, str]) -> None:
    bucket, s3 = outputs["StoreUrl"].removeprefix("s3://"), client("s3")
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    # Which of these a bucket of CloudFormation has, moto does not keep.
    wanted = template()["Resources"]["ModelBucket"]["Properties"]
    assert wanted["VersioningConfiguration"] == {"Status": "Enabled"}
    assert [*wanted["PublicAccessBlockConfiguration"].values()] == [True] * 4


def test_a_gpu_is_a_parameter_and_a_stack_without_an_image_has_no_instances_and_is_deleted(aws: None) -> None:
    before = client("elbv2").describe_load_balancers()["LoadBalancers"]
    groups = client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    outputs = create("second", Image="", Variant="gpu")
    assert client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == groups
    assert launch_data("second")["InstanceType"] == "g6.xlarge"
    assert launch_data("second")["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 80
    assert client("ssm").get_parameter(Name=outputs["ImageParameter"])["Parameter"]["Value"] == "none"

    client("cloudformation").delete_stack(StackName="second")
    stacks = client("cloudformation").list_stacks(StackStatusFilter=["DELETE_COMPLETE"])["StackSummaries"]
    assert [stack["StackName"] for stack in stacks] == ["second"]
    assert client("elbv2").describe_load_balancers()["LoadBalancers"] == before
    assert not [role for role in client("iam").list_roles()["Roles"] if "second" in role["RoleName"]]
    kept = {name for name, each in template()["Resources"].items() if each.get("DeletionPolicy") == "Retain"}
    assert kept == {"ModelBucket", "Settings", "SigningKey", "Images"}


def test_only_the_load_balancer_reaches_an_instance(outputs: dict[str, str]) -> None:
    ids = [resource("fairmark", "LoadBalancerGroup"), resource("fairmark", "InstanceGroup")]
    found = {
        group["GroupId"]: group for group in client("ec2").describe_security_groups(GroupIds=ids)["SecurityGroups"]
    }
    balancer, instances = (found[group_id] for group_id in ids)
    assert {rule["FromPort"] for rule in balancer["IpPermissions"]} == {80, 443}
    (rule,) = instances["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"], rule["IpRanges"]) == (3000, 3000, [])
    assert [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == [balancer["GroupId"]]
    listeners = client("elbv2").describe_listeners(LoadBalancerArn=resource("fairmark", "LoadBalancer"))["Listeners"]
    actions = {listener["Port"]: listener["DefaultActions"][0]["Type"] for listener in listeners}
    assert actions == {443: "forward", 80: "redirect"}


def test_roles_have_no_keys_and_no_right_beyond_their_work(outputs: dict[str, str]) -> None:
    bucket = outputs["StoreUrl"].removeprefix("s3://")
    assert "AWS::IAM::User" not in {each["Type"] for each in template()["Resources"].values()}
    serves, deploys = statements(resource("fairmark", "InstanceRole")), statements(outputs["DeployRoleArn"])
    publishes = statements(outputs["PublishRoleArn"])

    assert serves["ReadModels"]["Action"] == "s3:GetObject"
    assert serves["ReadModels"]["Resource"] == f"arn:aws:s3:::{bucket}/models/*"
    # A reference to what moto does not know is left out by it.
    every = [*serves.items(), *deploys.items(), *publishes.items()]
    wide = {sid for sid, statement in every if statement.get("Resource") == "*"}
    assert not [sid for sid, statement in every if "*" in str(statement["Action"])]
    assert wide == {"LogIn", "BeManaged", "Watch"}
    assert deploys["OnOurInstances"]["Condition"] == {"StringEquals": {"aws:ResourceTag/fairmark-stack": "fairmark"}}
    written = {sid for sid, statement in serves.items() if "Put" in str(statement["Action"])}
    assert written == {"WriteLog"}


@pytest.mark.parametrize(("role", "environment"), [("DeployRole", "production"), ("PublishRole", "models")])
def test_a_workflow_of_another_repository_or_environment_may_not_assume_a_role(
    outputs: dict[str, str], role: str, environment: str
) -> None:
    name = outputs[f"{role}Arn"].rpartition("/")[2]
    trust = client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": f"repo:ours/fairmark:environment:{environment}",
        }
    }


def test_the_secret_that_the_template_makes_is_one_that_the_service_reads(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = template()["Resources"]["Settings"]["Properties"]["GenerateSecretString"]
    content = json.loads(made["SecretStringTemplate"]["Fn::Sub"].replace("${ApiKeySha256}", "ab" * 32))
    content[made["GenerateStringKey"]] = "x" * made["PasswordLength"]
    client("secretsmanager").create_secret(Name="settings", SecretString=json.dumps(content))
    monkeypatch.setenv("FAIRMARK_SECRETS__ID", "settings")
    service = load_settings(ServingSettings).service
    assert service.access.required
    assert service.access.keys == (ApiKey(name="first", sha256="ab" * 32, scopes=("score",)),)
    assert service.cache.key is not None
    assert service.cache.key.get_secret_value() == "x" * 48
