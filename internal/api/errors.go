package api

import (
	"errors"
	"net/http"

	"github.com/oriel-project/oriel/internal/appstream"
)

// The kinds that only the wire answers with, named as AWS names them.
const (
	kindMissingToken     appstream.Kind = "MissingAuthenticationTokenException" // not signed
	kindIncomplete       appstream.Kind = "IncompleteSignatureException"        // the Authorization header is malformed
	kindUnknownKey       appstream.Kind = "UnrecognizedClientException"         // no such access key or session token
	kindInvalidSignature appstream.Kind = "InvalidSignatureException"           // signed by another key, for another request or at another time
	kindUnknownOperation appstream.Kind = "UnknownOperationException"
	kindSerialization    appstream.Kind = "SerializationException" // the body is not what the protocol or the shape says
	kindTooLarge         appstream.Kind = "RequestEntityTooLargeException"
	kindCanceled         appstream.Kind = "RequestCanceled" // the client went away before it was answered
)

// statusOf gives the HTTP status of a kind. Clients go by the kind; AWS answers nearly everything with 400,
// UnknownOperationException and the signature errors included: its JSON services have always done so, whatever the
// pages on common errors say (aws-sdk-js issue 425, aws-sdk-net issue 1536).
func statusOf(k appstream.Kind) int {
	switch k {
	case appstream.ResourceNotFound:
		return http.StatusNotFound
	case appstream.DryRunOperation:
		return http.StatusPreconditionFailed
	case appstream.Unavailable:
		return http.StatusServiceUnavailable
	case appstream.Internal:
		return http.StatusInternalServerError
	case kindTooLarge:
		return http.StatusRequestEntityTooLarge
	case kindCanceled:
		return 499 // as nginx logs it
	}
	return http.StatusBadRequest
}

// internalText is all that a caller learns of a fault of ours; the log has the rest under the request id.
const internalText = "The request processing has failed because of an unknown error, exception or failure."

// publicError gives what the caller is told of an error.
func publicError(err error) (kind appstream.Kind, message string) {
	e, ok := errors.AsType[*appstream.Error](err)
	if !ok || e.Kind == appstream.Internal {
		return appstream.Internal, internalText
	}
	return e.Kind, e.Message
}

// writeError appends the body of an error. Every client of JSON reads Message, which is the member that the
// AppStream model has; smithy-go reads only message of an error in CBOR that its model does not know.
func (w *writer) writeError(kind appstream.Kind, message string) {
	members := [][2]string{{"__type", string(kind)}, {"Message", message}}
	if w.cbor {
		members = append(members, [2]string{"message", message})
	}
	w.open('{', majorMap, len(members))
	for i, m := range members {
		w.comma(i)
		w.string(m[0])
		if !w.cbor {
			w.buf = append(w.buf, ':')
		}
		w.string(m[1])
	}
	w.close('}')
}
