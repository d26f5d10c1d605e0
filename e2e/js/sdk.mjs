// The whole life of an image builder, and its errors, through AWS's SDK for JavaScript, in both of the API's protocols.
// TestJavaScript starts it: node sdk.mjs ENDPOINT, with the key in the environment.
import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-appstream";
import { connect, until } from "./life.mjs";

const endpoint = process.argv[2];

async function life(protocol) {
  const { call, refused, spoke } = connect(endpoint, protocol);
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
  const missing = await refused("StartAppBlockBuilder", { Name: "nobody" }, "ResourceNotFoundException", /app block builder nobody/);
  assert.equal(missing.$metadata.httpStatusCode, 404);
  spoke();
  console.log(`${protocol}: the whole life of ${Name}, ${Date.now() - before} ms`);
}

await Promise.all([life("json"), life("cbor")]);
