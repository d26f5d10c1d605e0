// The whole life of a fleet and of a session on it, and their errors, through AWS's SDK for JavaScript, in both of the API's
// protocols. TestJavaScriptFleet starts it: node fleet.mjs ENDPOINT, with the key in the environment.
import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-appstream";
import { connect, until } from "./life.mjs";

const endpoint = process.argv[2];

async function life(protocol) {
  const { call, refused, spoke } = connect(endpoint, protocol);
  const Name = `js-${protocol}`;
  const fleet = async () => (await call("DescribeFleets", { Names: [Name] })).Fleets[0];
  const before = Date.now();

  const stack = (await call("CreateStack", {
    Name, DisplayName: "Bühne ✓", EmbedHostDomains: ["example.com"], RedirectURL: "https://example.com/after", Tags: { purpose: "test" },
    UserSettings: [{ Action: "CLIPBOARD_COPY_TO_LOCAL_DEVICE", Permission: "ENABLED", MaximumLength: 100 }, { Action: "FILE_UPLOAD", Permission: "DISABLED" }],
  })).Stack;
  assert.equal(stack.Arn, `arn:aws:appstream:us-east-1:123456789012:stack/${Name}`);
  const copy = stack.UserSettings.find((s) => s.Action === "CLIPBOARD_COPY_TO_LOCAL_DEVICE");
  assert.deepEqual([stack.DisplayName, stack.EmbedHostDomains, copy.MaximumLength], ["Bühne ✓", ["example.com"], 100]);
  assert.equal(stack.UserSettings.find((s) => s.Action === "FILE_UPLOAD").Permission, "DISABLED");

  const made = (await call("CreateFleet", { Name, ImageName: "oriel-debian-12", InstanceType: "stream.standard.medium", FleetType: "ALWAYS_ON", ComputeCapacity: { DesiredInstances: 2 } })).Fleet;
  assert.equal(made.Arn, `arn:aws:appstream:us-east-1:123456789012:fleet/${Name}`);
  assert.deepEqual([made.State, made.StreamView, made.MaxUserDurationInSeconds, made.DisconnectTimeoutInSeconds, made.IdleDisconnectTimeoutInSeconds, made.ComputeCapacityStatus.Desired],
    ["STOPPED", "APP", 57600, 900, 0, 2]);
  assert.ok(made.CreatedTime instanceof Date && Math.abs(made.CreatedTime.getTime() - before) < 60_000, `CreatedTime ${made.CreatedTime}`);

  const url = { FleetName: Name, StackName: Name, UserId: "ann@example.com" };
  await refused("CreateStreamingURL", url, "OperationNotPermittedException", /AssociateFleet/);
  await call("AssociateFleet", { FleetName: Name, StackName: Name });
  assert.deepEqual((await call("ListAssociatedFleets", { StackName: Name })).Names, [Name]);
  assert.deepEqual((await call("ListAssociatedStacks", { FleetName: Name })).Names, [Name]);
  await refused("CreateStreamingURL", url, "ResourceNotAvailableException", /STOPPED/);
  await call("StartFleet", { Name });
  const running = await until("RUNNING", async () => {
    const f = await fleet();
    return f.State === "RUNNING" && f.ComputeCapacityStatus.Available === 2 && f;
  });
  assert.deepEqual([running.ComputeCapacityStatus.Running, running.ComputeCapacityStatus.InUse, running.FleetErrors ?? []], [2, 0, []]);
  await refused("UpdateFleet", { Name, StreamView: "DESKTOP" }, "ResourceInUseException", /ACTIVE/);
  const inUse = await refused("DeleteFleet", { Name }, "ResourceInUseException", /dissociate it from the stack/);
  assert.ok(inUse instanceof sdk.ResourceInUseException);

  const link = await call("CreateStreamingURL", { ...url, Validity: 120, SessionContext: "from JavaScript" });
  assert.ok(link.StreamingURL.startsWith(`${endpoint}/authenticate?`));
  assert.ok(Math.abs(link.Expires.getTime() - Date.now() - 120_000) < 30_000, `Expires ${link.Expires}`);
  assert.deepEqual((await call("DescribeSessions", { FleetName: Name, StackName: Name })).Sessions, [], "a link that nobody opens costs nothing");
  const page = await fetch(link.StreamingURL, { redirect: "manual" });
  assert.match(page.headers.get("location") ?? "", /\/stream\//);
  const session = await until("ACTIVE", async () => (await call("DescribeSessions", { FleetName: Name, StackName: Name, UserId: "ann@example.com", AuthenticationType: "API" })).Sessions.find((s) => s.State === "ACTIVE"));
  assert.deepEqual([session.FleetName, session.StackName, session.UserId, session.ConnectionState, session.AuthenticationType, session.InstanceDrainStatus],
    [Name, Name, "ann@example.com", "NOT_CONNECTED", "API", "NOT_APPLICABLE"]);
  assert.match(session.InstanceId, /^i-[0-9a-f]{17}$/);
  assert.ok(Math.abs(session.MaxExpirationTime - session.StartTime - 57_600_000) < 2000, `${session.StartTime} to ${session.MaxExpirationTime}`);
  assert.ok(Array.isArray(session.NetworkAccessConfiguration.EniIpv6Addresses));
  assert.deepEqual((({ Available, InUse }) => [Available, InUse])((await fleet()).ComputeCapacityStatus), [1, 1]);

  await call("ExpireSession", { SessionId: session.Id });
  await until("the next instance", async () => (await fleet()).ComputeCapacityStatus.Available === 2);
  const left = (await call("DescribeSessions", { FleetName: Name, StackName: Name, Limit: 50 })).Sessions;
  assert.ok(left.every((s) => s.State === "EXPIRED"), JSON.stringify(left));

  await call("StopFleet", { Name });
  await until("STOPPED", async () => (await fleet()).State === "STOPPED");
  await call("UpdateFleet", { Name, StreamView: "DESKTOP", AttributesToDelete: ["VPC_CONFIGURATION"] });
  assert.equal((await fleet()).StreamView, "DESKTOP");
  await call("DisassociateFleet", { FleetName: Name, StackName: Name });
  await call("DeleteFleet", { Name });
  await call("DeleteStack", { Name });
  await refused("DescribeFleets", { Names: [Name] }, "ResourceNotFoundException", new RegExp(Name));
  await refused("StartFleet", { Name: "nobody" }, "ResourceNotFoundException", /nobody/);
  spoke();
  console.log(`${protocol}: the whole life of ${Name}, ${Date.now() - before} ms`);
}

await Promise.all([life("json"), life("cbor")]);
