package appstream

import (
	"errors"
	"fmt"
)

// Kind says what sort of error an operation met. Its value is the name of the exception of the AppStream
// model, which is what every AWS client switches on.
type Kind string

// The kinds of the AppStream model, and those that every AWS service may answer.
const (
	ConcurrentModification      Kind = "ConcurrentModificationException"
	DryRunOperation             Kind = "DryRunOperationException"
	EntitlementAlreadyExists    Kind = "EntitlementAlreadyExistsException"
	EntitlementNotFound         Kind = "EntitlementNotFoundException"
	IncompatibleImage           Kind = "IncompatibleImageException"
	InvalidAccountStatus        Kind = "InvalidAccountStatusException"
	InvalidParameterCombination Kind = "InvalidParameterCombinationException"
	InvalidRole                 Kind = "InvalidRoleException"
	LimitExceeded               Kind = "LimitExceededException"
	OperationNotPermitted       Kind = "OperationNotPermittedException"
	RequestLimitExceeded        Kind = "RequestLimitExceededException"
	ResourceAlreadyExists       Kind = "ResourceAlreadyExistsException"
	ResourceInUse               Kind = "ResourceInUseException"
	ResourceNotAvailable        Kind = "ResourceNotAvailableException"
	ResourceNotFound            Kind = "ResourceNotFoundException"

	// Validation is a request that breaks a limit of the model (length, pattern, range, required member).
	Validation Kind = "ValidationException"
	// InvalidParameterValue is a value that the model allows and the operation does not; AWS answers it
	// although the AppStream model does not list it.
	InvalidParameterValue Kind = "InvalidParameterValueException"
	// AccessDenied is a request that the caller's policy does not allow.
	AccessDenied Kind = "AccessDeniedException"
	// Throttling is a request of an account that asks more often than it may. AWS's SDKs try it again, which they do not with RequestLimitExceeded: that one says
	// that EC2 throttles AppStream.
	Throttling Kind = "ThrottlingException"
	// InsufficientCapacity: no instance of the fleet is free for one more person. It is told to people, not to clients of the API.
	InsufficientCapacity Kind = "InsufficientCapacity"
	// Unavailable is a passing inability of Oriel itself (the store is busy, the container engine is down). Its HTTP status is 503.
	Unavailable Kind = "ServiceUnavailableException"
	// Internal is a fault of Oriel itself. Its HTTP status is 500 and its cause is logged, not sent.
	Internal Kind = "InternalFailure"
)

// Error is the one error type of the domain. Message is written for the person who called: it names the
// resource and what to do next. Cause is for the log and is never sent to the caller.
type Error struct {
	Kind    Kind
	Message string
	Cause   error
	Why     Why    // of a refusal that people meet who call no API, so that it can be said in their language
	About   string // what the refusal names: a fleet, say
}

// Why says why a person gets no session.
type Why string

// The reasons.
const (
	WhyGone      Why = "gone"      // the fleet of the link is not there any more
	WhyMoved     Why = "moved"     // the stack has another fleet, or is not there any more
	WhyElsewhere Why = "elsewhere" // he has a session by another stack, whose title About is
	WhyStopped   Why = "stopped"   // the fleet, which About names, does not run
	WhyForbidden Why = "forbidden" // he is entitled to none of the applications
	WhyWithdrawn Why = "withdrawn" // the user does not have the stack any more, or is disabled
)

// ErrorFor makes an Error that a person meets.
func ErrorFor(kind Kind, why Why, about, message string) *Error {
	return &Error{Kind: kind, Message: message, Why: why, About: about}
}

// Errorf makes an Error of a kind. A %w verb in the format sets Cause as fmt.Errorf does.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// Error gives "Kind: Message".
func (e *Error) Error() string { return string(e.Kind) + ": " + e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf gives the kind of the first *Error in err's chain, Internal for any other error and "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
