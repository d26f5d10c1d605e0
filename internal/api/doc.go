// Package api is the wire: it turns signed HTTP requests into calls of Go methods and their results into
// answers. It knows the shapes of the AppStream API and no operation.
//
// A request passes, in this order and never back: body (at most 1 MiB) → signature (SigV4) → method → rate → decode
// into the method's input type → limits of the model → IAM policy → call → encode. Two protocols lead to the same
// method and differ only in how a value is read and written:
//
//   - awsJson1_1:  POST /  with X-Amz-Target: <Prefix>.<Operation>
//   - rpcv2Cbor:   POST /service/<Prefix>/operation/<Operation>  with smithy-protocol: rpc-v2-cbor
//
// The files: handler.go the request, errors.go the answer to an error, sigv4.go the signature, shape.go what is
// known of a Go type, encode.go and decode.go the one walk over it, json.go and cbor.go the two notations,
// limits.go the constraints, rates.go how often, authorize.go what a policy is asked; the iam folder the policies.
package api

//go:generate go run ./limitsgen -model ${APPSTREAM_MODEL} -out limits.txt
