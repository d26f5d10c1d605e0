// The whole life of an image builder, and its errors, through AWS's SDK for JavaScript, in both of the API's protocols.
// TestJavaScript starts it: node sdk.mjs ENDPOINT, with the key in the environment.
import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-appstream";
import { SmithyRpcV2CborProtocol } from "@smithy/core/cbor";

const endpoint = process.argv[2];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until ok gives something. */
async function until(what, ok) {
  for (const end = Date.now() + 60_000; Date.now() < end; await pause(20)) {
    const value = await ok();
    if (value) return value;
  }
  assert.fail(`${what} did not come`);
}

const json = {};
const cbor = {
  protocol: SmithyRpcV2CborProtocol,
  protocolSettings: { defaultNamespace: "com.amazonaws.appstream", errorTypeRegistries: sdk.errorTypeRegistries, serviceTarget: "PhotonAdminProxyService" },
};

async function life(protocol, settings) {
  const client = new sdk.AppStreamClient({ region: "us-east-1", endpoint, maxAttempts: 1, ...settings });
  const spoken = new Set();
  client.middlewareStack.add((next) => async (args) => {
    spoken.add(args.request.headers["content-type"]);
    return next(args);
  }, { step: "finalizeRequest" });
  const call = (operation, input = {}) => client.send(new sdk[`${operation}Command`](input));
  const refused = async (operation, input, kind, says) => {
    const error = await call(operation, input).then(() => assert.fail(`${operation} was not refused`), (e) => e);
    assert.equal(error.name, kind, `${operation}: ${error}`);
    assert.match(error.message, says);
    assert.match(error.$metadata.requestId ?? "", /\S{8}/);
    return error;
  };
  const Name = `js-${protocol}`;
  const state = async () => (await call("DescribeImageBuilders", { Names: [Name] })).ImageBuilders[0].State;

  const before = Date.now();
  const made = await call("CreateImageBuilder", {
    Name, ImageName: "oriel-debian-12", InstanceType: "stream.standard.medium", DisplayName: "Größe ✓", Tags: { purpose: "test" },
    VpcConfig: { SubnetIds: ["subnet-1"] }, RootVolumeConfig: { VolumeSizeInGb: 250 }, EnableDefaultInternetAccess: false,
  });
  const b = made.ImageBuilder;
  assert.equal(b.Arn, `arn:aws:appstream:us-east-1:123456789012:image-builder/${Name}`);
  assert.deepEqual([b.State, b.DisplayName, b.VpcConfig.SubnetIds, b.RootVolumeConfig.VolumeSizeInGb, b.EnableDefaultInternetAccess], ["PENDING", "Größe ✓", ["subnet-1"], 250, false]);
  assert.ok(b.CreatedTime instanceof Date && Math.abs(b.CreatedTime.getTime() - before) < 60_000, `CreatedTime ${b.CreatedTime}`);

  const exists = await refused("CreateImageBuilder", { Name, ImageName: "oriel-debian-12", InstanceType: "stream.standard.medium" }, "ResourceAlreadyExistsException", new RegExp(Name));
  assert.ok(exists instanceof sdk.ResourceAlreadyExistsException);
  await until("RUNNING", async () => (await state()) === "RUNNING");
  const running = (await call("DescribeImageBuilders", { Names: [Name] })).ImageBuilders[0];
  assert.match(running.NetworkAccessConfiguration.EniId, /^eni-[0-9a-f]{17}$/);
  assert.ok(Array.isArray(running.NetworkAccessConfiguration.EniIpv6Addresses));
  assert.deepEqual((await call("ListTagsForResource", { ResourceArn: b.Arn })).Tags, { purpose: "test" });

  const url = await call("CreateImageBuilderStreamingURL", { Name, Validity: 60 });
  assert.ok(url.StreamingURL.startsWith(`${endpoint}/authenticate?`));
  assert.ok(Math.abs(url.Expires.getTime() - Date.now() - 60_000) < 30_000, `Expires ${url.Expires}`);

  await refused("StartImageBuilder", { Name }, "ResourceNotAvailableException", /STOPPED/);
  await call("StopImageBuilder", { Name });
  await refused("CreateImageBuilderStreamingURL", { Name }, "OperationNotPermittedException", /RUNNING/);
  await until("STOPPED", async () => (await state()) === "STOPPED");
  await call("StartImageBuilder", { Name });
  await until("RUNNING again", async () => (await state()) === "RUNNING");
  await call("DeleteImageBuilder", { Name });
  await until("its end", () => call("DescribeImageBuilders", { Names: [Name] }).then((r) => r.ImageBuilders.length === 0, (e) => e instanceof sdk.ResourceNotFoundException || Promise.reject(e)));

  await refused("DeleteImageBuilder", { Name: "nobody" }, "ResourceNotFoundException", /nobody/);
  await refused("CreateImageBuilder", { Name: "-x", ImageName: "oriel-debian-12", InstanceType: "stream.standard.medium" }, "ValidationException", /name/i);
  await refused("CreateImageBuilder", { Name: "x", ImageName: "no-such-image", InstanceType: "stream.standard.medium" }, "ResourceNotFoundException", /no-such-image/);
  await refused("CreateImageBuilder", { Name: "x", InstanceType: "stream.standard.medium" }, "InvalidParameterCombinationException", /ImageName|ImageArn/);
  const pending = await refused("DescribeFleets", {}, "NotImplementedException", /DescribeFleets/);
  assert.equal(pending.$metadata.httpStatusCode, 501);
  assert.deepEqual([...spoken], [protocol === "cbor" ? "application/cbor" : "application/x-amz-json-1.1"], "the protocol that was meant");
  console.log(`${protocol}: the whole life of ${Name}, ${Date.now() - before} ms`);
}

await Promise.all([life("json", json), life("cbor", cbor)]);
