// What the programs about one noun's life have in common: the SDK for JavaScript in both of the API's protocols.
import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-appstream";
import { SmithyRpcV2CborProtocol } from "@smithy/core/cbor";

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until ok gives something. */
export async function until(what, ok) {
  for (const end = Date.now() + 60_000; Date.now() < end; await pause(20)) {
    const value = await ok();
    if (value) return value;
  }
  assert.fail(`${what} did not come`);
}

const settings = {
  json: {},
  cbor: {
    protocol: SmithyRpcV2CborProtocol,
    protocolSettings: { defaultNamespace: "com.amazonaws.appstream", errorTypeRegistries: sdk.errorTypeRegistries, serviceTarget: "PhotonAdminProxyService" },
  },
};

/** A client that speaks a protocol: call performs an operation, refused sees one fail, spoke sees that nothing else was spoken. */
export function connect(endpoint, protocol) {
  const client = new sdk.AppStreamClient({ region: "us-east-1", endpoint, maxAttempts: 1, ...settings[protocol] });
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
  const spoke = () => assert.deepEqual([...spoken], [protocol === "cbor" ? "application/cbor" : "application/x-amz-json-1.1"], "the protocol that was meant");
  return { call, refused, spoke };
}
