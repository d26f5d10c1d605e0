"""AWS's SDK for Python against a server, as its scripts and tools made with it use it: sdk.py ENDPOINT REGION json|cbor"""

import datetime
import json
import os
import sys
import tempfile

import boto3
import botocore.loaders
import botocore.parsers

endpoint, region, protocol = sys.argv[1:]
scratch = tempfile.TemporaryDirectory()
if protocol == "cbor":
    # botocore speaks CBOR with services that have no other protocol, so here is a model of such a one.
    cbor = "smithy-rpc-v2-cbor"
    if cbor not in botocore.parsers.PROTOCOL_PARSERS:
        sys.exit("skipped: this botocore does not speak CBOR")
    model = botocore.loaders.create_loader().load_service_model("appstream", "service-2")
    model["metadata"].update(protocol=cbor, protocols=[cbor])
    folder = os.path.join(scratch.name, "appstream", model["metadata"]["apiVersion"])
    os.makedirs(folder)
    with open(os.path.join(folder, "service-2.json"), "w") as file:
        json.dump(model, file)
    os.environ["AWS_DATA_PATH"] = scratch.name

client = boto3.client("appstream", region_name=region, endpoint_url=endpoint)


def same(what, got, want):
    if got != want:
        sys.exit(f"{what}: {got!r}, not {want!r}")


def recent(what, time):
    if time.tzinfo is None or abs(datetime.datetime.now(datetime.timezone.utc) - time) > datetime.timedelta(hours=1):
        sys.exit(f"{what}: {time!r} is not now")


def refused(kind, call, **members):
    try:
        call(**members)
    except getattr(client.exceptions, kind) as e:
        if not e.response["Error"]["Message"] or not e.response["ResponseMetadata"]["RequestId"]:
            sys.exit(f"{kind} says nothing: {e.response}")
        return
    sys.exit(f"there was no {kind}")


spoken = client.describe_images()["ResponseMetadata"]["HTTPHeaders"]["content-type"]
same("the protocol", spoken, {"json": "application/x-amz-json-1.1", "cbor": "application/cbor"}[protocol])

# Paginators.
users = {f"user{n}@example.com" for n in range(7)}
for user in users:
    client.create_user(UserName=user, AuthenticationType="USERPOOL", MessageAction="SUPPRESS")
pages = list(client.get_paginator("describe_users").paginate(AuthenticationType="USERPOOL", PaginationConfig={"PageSize": 3}))
same("pages of users", [len(page["Users"]) for page in pages], [3, 3, 1])
same("users", {user["UserName"] for page in pages for user in page["Users"]}, users)
for user in pages[0]["Users"]:
    recent("when the user was created", user["CreatedTime"])
    client.enable_user(UserName=user["UserName"], AuthenticationType="USERPOOL")

# Waiters.
image = client.get_paginator("describe_images").paginate().build_full_result()["Images"][0]
client.create_stack(Name="lab")
client.create_fleet(Name="lab", ImageName=image["Name"], InstanceType="stream.standard.medium", FleetType="ON_DEMAND", ComputeCapacity={"DesiredInstances": 1})
client.associate_fleet(FleetName="lab", StackName="lab")
client.start_fleet(Name="lab")
client.get_waiter("fleet_started").wait(Names=["lab"], WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
fleet = client.describe_fleets(Names=["lab"])["Fleets"][0]
same("the fleet", (fleet["State"], fleet["ComputeCapacityStatus"]["Desired"], fleet["DisconnectTimeoutInSeconds"]), ("RUNNING", 1, 900))
recent("when the fleet was created", fleet["CreatedTime"])
recent("when the link expires", client.create_streaming_url(StackName="lab", FleetName="lab", UserId="ada")["Expires"])
same("stacks of the fleet", list(client.get_paginator("list_associated_stacks").paginate(FleetName="lab").search("Names")), ["lab"])
same("sessions", list(client.get_paginator("describe_sessions").paginate(StackName="lab", FleetName="lab").search("Sessions")), [])

# Errors, as classes; those of a batch are in members with small first letters.
refused("ResourceNotFoundException", client.describe_stacks, Names=["none"])
refused("ResourceAlreadyExistsException", client.create_stack, Name="lab")
refused("ResourceInUseException", client.delete_fleet, Name="lab")
batch = [{"StackName": stack, "UserName": "user0@example.com", "AuthenticationType": "USERPOOL"} for stack in ("lab", "none")]
errors = client.batch_associate_user_stack(UserStackAssociations=batch)["errors"]
same("errors of the batch", [(e["UserStackAssociation"]["StackName"], e["ErrorCode"]) for e in errors], [("none", "STACK_NOT_FOUND")])

client.stop_fleet(Name="lab")
client.get_waiter("fleet_stopped").wait(Names=["lab"], WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
client.disassociate_fleet(FleetName="lab", StackName="lab")
client.delete_fleet(Name="lab")
client.delete_stack(Name="lab")
for user in users:
    client.delete_user(UserName=user, AuthenticationType="USERPOOL")
same("users", client.describe_users(AuthenticationType="USERPOOL")["Users"], [])
