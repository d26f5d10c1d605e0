package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"uuid"

	"golang.org/x/time/rate"

	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/appstream"
)

// maxBody is the size of the largest request body in bytes, and maxDrain how much more of a larger one is read to nowhere: most clients look for the
// answer when they have sent everything, and would find the connection broken.
const (
	maxBody  = 1 << 20
	maxDrain = 8 << 20
)

// Service is a set of operations behind one target prefix.
type Service struct {
	// Prefix is what stands before the operation in X-Amz-Target and in the path of CBOR:
	// PhotonAdminProxyService for AppStream.
	Prefix string
	// IAM is what stands before the operation in the actions of policies: appstream.
	IAM string
	// Handler has a method X(context.Context, *XInput) (*XOutput, error) for each operation X; other exported
	// methods are no operations. The context carries the appstream.Caller. An error that is not an
	// *appstream.Error is answered as an internal failure. The output must not change after the return.
	Handler any
	// Resources gives the ARNs that the policy is asked about for a request; the caller needs the
	// permission for each of them. None, or a nil Resources, stands for "*".
	Resources func(operation string, c appstream.Caller, input any) []string
	// Dependent gives what else the policy must allow for a request: actions, perhaps of other services, each on a resource. Nil: nothing.
	Dependent func(operation string, c appstream.Caller, input any) []appstream.DependentAction
	// Tags gives the tags of the resource of an ARN, for policies that ask for them; none for one that does not exist. Nil: no resource has tags.
	Tags func(ctx context.Context, c appstream.Caller, arn string) (map[string]string, error)
	// Repeatable tells whether an operation's answer depends on nothing but its input, the caller's account, region and
	// BaseURL, and what Config.Generation counts. Such answers are kept. Nil: no operation is.
	Repeatable func(operation string) bool
	// Limits are constraints of inputs that the AppStream model does not have, in the form that modelLimits
	// explains; they may name its shapes. Example:
	//
	//	structure CreateImageInput ImageBuilderName!:Name Description:Description
	Limits string
}

// Key is an access key and what it may do.
type Key struct {
	ID           string // access key id
	Secret       string
	SessionToken string      // of a temporary key; requests must send it, and must send none when it is empty
	Account      string      // twelve digits
	Principal    string      // ARN of the user or role
	Policy       *iam.Policy // nil allows everything
	Disabled     bool
}

// AuditEntry is what the audit log keeps of a request. What is not known because the request was refused earlier is
// the zero value.
type AuditEntry struct {
	Time        time.Time // when the request came
	RequestID   string
	Account     string
	Region      string
	AccessKeyID string // as claimed, when the signature was refused
	Principal   string
	Source      netip.Addr
	Service     string // the prefix of policies: appstream
	Operation   string
	Resources   []string       // ARNs the policy was asked about
	Result      appstream.Kind // "" for success
	Input       []byte         // JSON; sensitive members are "***"
}

// Config is what the handler needs. Keys and Regions are required.
type Config struct {
	// Keys looks an access key up; false when there is none. It is called for each request.
	Keys func(ctx context.Context, accessKeyID string) (Key, bool, error)
	// Regions are the regions that are served. A signature for another one is refused.
	Regions []string
	// Audit is called once for each request, also a refused one, before the answer is sent.
	Audit func(ctx context.Context, e AuditEntry)
	// Log gets one line for each request. Nil: none.
	Log *slog.Logger
	// Observe gets the figures of each request; operation is "" when there is no such operation, protocol is
	// json or cbor, code is "" for success.
	Observe func(operation, protocol, code string, d time.Duration)
	// PublicURL, when set, is what Caller.BaseURL is: scheme and host by which clients reach this server, for
	// example when a proxy ends TLS. Without it, it is made of the request's signed Host header.
	PublicURL string
	// Secure tells whether a client speaks HTTPS, for policies that ask for it; nil: whether the connection is TLS.
	Secure func(*http.Request) bool
	// Rates limits how often operations are called; the zero value does not.
	Rates Rates
	// Generation counts the commits of whatever the operations read; it has counted a commit before anyone is told of
	// it. Nil: no answers are kept.
	Generation func() uint64
}

// operation is a method that can be called.
type operation struct {
	service *Service
	name    string
	in, out *shape
	method  reflect.Value

	tags, tagKeys int // which fields of the input have tags, and keys of tags; -1: none

	rate  rate.Limit // calls each second; 0: no limit
	burst int        // at once

	repeatable bool // its answer depends on nothing but the question and the store
}

// handler serves the operations of all services.
type handler struct {
	cfg        Config
	verifier   verifier
	operations map[string]*operation // by target: Prefix.Name
	answers    answers
	throttle   throttle
}

// New makes a handler of the services' operations for POST / and POST /service/. The error names what of a service or
// of the configuration cannot be served.
func New(cfg Config, services ...Service) (http.Handler, error) {
	if cfg.Keys == nil || len(cfg.Regions) == 0 {
		return nil, errors.New("api: Config.Keys and Config.Regions must be set")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.PublicURL = strings.TrimSuffix(cfg.PublicURL, "/")
	h := &handler{
		cfg:        cfg,
		verifier:   verifier{keys: cfg.Keys, regions: slices.Clone(cfg.Regions)},
		operations: map[string]*operation{},
	}
	for i := range services {
		if err := h.add(&services[i]); err != nil {
			return nil, fmt.Errorf("api: service %s: %w", services[i].Prefix, err)
		}
	}
	if err := cfg.Rates.check(h.operations); err != nil {
		return nil, err
	}
	return h, nil
}

// add finds the operations of a service.
func (h *handler) add(s *Service) error {
	if s.Handler == nil || s.Prefix == "" || s.IAM == "" {
		return errors.New("it needs a Prefix, an IAM prefix and a Handler")
	}
	v := reflect.ValueOf(s.Handler)
	key := shapesOf{v.Type(), s.Limits}
	known, err := key.shapes()
	if err != nil {
		return err
	}
	found := methods(s)
	for _, m := range found {
		op := &operation{service: s, name: m.Name, method: v.Method(m.Index), repeatable: s.Repeatable != nil && s.Repeatable(m.Name)}
		if op.in, err = known.of(m.Type.In(2).Elem()); err != nil {
			return err
		}
		if op.out, err = known.of(m.Type.Out(0).Elem()); err != nil {
			return err
		}
		if op.tags = fieldOf(op.in.typ, "Tags", reflect.TypeFor[map[string]string]()); op.tags < 0 {
			op.tags = fieldOf(op.in.typ, "NewImageTags", reflect.TypeFor[map[string]string]())
		}
		op.tagKeys = fieldOf(op.in.typ, "TagKeys", reflect.TypeFor[[]string]())
		h.cfg.Rates.limitRate(op)
		target := s.Prefix + "." + m.Name
		if h.operations[target] != nil {
			return fmt.Errorf("operation %s is there twice", m.Name)
		}
		h.operations[target] = op
	}
	if len(found) == 0 {
		return fmt.Errorf("%T has no method X(context.Context, *XInput) (*XOutput, error)", s.Handler)
	}
	whole.Store(key, known)
	return nil
}

// methods gives those of a service's handler that are operations.
func methods(s *Service) (list []reflect.Method) {
	t := reflect.TypeOf(s.Handler)
	for i := range t.NumMethod() {
		if m := t.Method(i); isOperation(m) {
			list = append(list, m)
		}
	}
	return list
}

// Actions gives what policies call the operations of services: appstream:DescribeFleets and so on.
func Actions(services ...Service) (list []string) {
	for i := range services {
		for _, m := range methods(&services[i]) {
			list = append(list, services[i].action(m.Name))
		}
	}
	return list
}

// action is what policies call an operation.
func (s *Service) action(operation string) string { return s.IAM + ":" + operation }

// isOperation reports whether m is X(context.Context, *XInput) (*XOutput, error).
func isOperation(m reflect.Method) bool {
	t := m.Type
	isStruct := func(t reflect.Type, name string) bool {
		return t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && t.Elem().Name() == name
	}
	return t.NumIn() == 3 && t.NumOut() == 2 && !t.IsVariadic() &&
		t.In(1) == reflect.TypeFor[context.Context]() && isStruct(t.In(2), m.Name+"Input") &&
		isStruct(t.Out(0), m.Name+"Output") && t.Out(1) == reflect.TypeFor[error]()
}

// exchange is one request and what has been found out about it.
type exchange struct {
	r         *http.Request
	start     time.Time
	cbor      bool
	key       Key
	caller    appstream.Caller
	op        *operation
	input     reflect.Value // pointer; invalid until it is decoded
	resources []string
	wait      time.Duration // for whom is refused because he asks too often
	out       writer
}

// scratch is the memory that one request reads its body into and writes its answer to.
type scratch struct {
	in  bytes.Buffer
	out []byte
}

// scratches are kept from request to request; one that has grown large is left to the garbage collector.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

const maxKeptScratch = 256 << 10

func (s *scratch) release() {
	if s.in.Cap() <= maxKeptScratch && cap(s.out) <= maxKeptScratch {
		s.in.Reset()
		scratches.Put(s)
	}
}

// ServeHTTP answers one request of either protocol.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mem := scratches.Get().(*scratch)
	defer mem.release()
	x := exchange{r: r, start: time.Now()}
	x.cbor = strings.HasPrefix(r.URL.Path, "/service/")
	x.out = writer{buf: mem.out[:0], cbor: x.cbor}
	x.caller.RequestID = uuid.New().String()
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.caller.Source = a.Addr().Unmap()
	}

	err := h.do(&x, w, &mem.in)
	defer func() { mem.out = x.out.buf }() // with what it has grown to, before mem is released
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		err = appstream.Errorf(kindCanceled, "the client closed the connection: %w", err)
	}
	kind, message := appstream.Kind(""), ""
	if err != nil {
		kind, message = publicError(err)
		x.out.buf = x.out.buf[:0]
		x.out.writeError(kind, message)
	}
	h.record(&x, kind, err)
	// Also for a client that has gone: net/http would say 200 for us, which one that only half closed its
	// connection could read.
	header := w.Header()
	header["X-Amzn-Requestid"] = []string{x.caller.RequestID}
	if x.cbor {
		header["Smithy-Protocol"] = smithyProtocol
		header["Content-Type"] = contentCBOR
	} else {
		header["Content-Type"] = contentJSON
	}
	if x.wait > 0 {
		seconds, milliseconds := retryAfter(x.wait)
		header["Retry-After"], header["X-Amz-Retry-After"] = []string{seconds}, []string{milliseconds}
	}
	header["Content-Length"] = []string{strconv.Itoa(len(x.out.buf))}
	status := http.StatusOK
	if err != nil {
		status = statusOf(kind)
	}
	w.WriteHeader(status)
	w.Write(x.out.buf) // an error means that the client is gone; the log has the answer
}

// Values of headers, which net/http does not change.
var (
	smithyProtocol = []string{"rpc-v2-cbor"}
	contentCBOR    = []string{"application/cbor"}
	contentJSON    = []string{"application/x-amz-json-1.1"}
)

// do carries a request from the body to the encoded output.
func (h *handler) do(x *exchange, w http.ResponseWriter, buf *bytes.Buffer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			h.cfg.Log.Error("panic", "request_id", x.caller.RequestID, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	body, err := readBody(w, x.r, buf)
	if err != nil {
		return err
	}
	key, region, err := h.verifier.verify(x.r, body, x.start)
	x.key, x.caller.AccessKeyID = key, key.ID
	if err != nil {
		return err
	}
	x.caller.Account, x.caller.Principal, x.caller.Region = key.Account, key.Principal, region
	x.caller.BaseURL = h.baseURL(x.r)
	if x.op, err = h.find(x.r, x.cbor); err != nil {
		return err
	}
	if x.wait = h.throttle.take(x.op, key.Account, region, x.start); x.wait > 0 {
		return errThrottled
	}
	input, err := x.op.decode(body, x.cbor)
	if err != nil {
		return appstream.Errorf(kindSerialization, "%w", err)
	}
	x.input = input
	if err := check(x.op.in, input.Elem()); err != nil {
		return err
	}
	if err := x.authorize(h); err != nil {
		return err
	}
	// The generation is read before the operation looks: if something is committed meanwhile, the answer is not found again.
	var generation uint64
	var q question
	repeat := x.op.repeatable && h.cfg.Generation != nil
	if repeat {
		generation = h.cfg.Generation()
		q = question{x.op, x.cbor, x.caller.Account, x.caller.Region, x.caller.BaseURL, string(body)}
		if buf, ok := h.answers.get(generation, q, x.out.buf); ok {
			x.out.buf = buf
			return nil
		}
	}
	result := x.op.method.Call([]reflect.Value{
		reflect.ValueOf(appstream.WithCaller(x.r.Context(), x.caller)),
		input,
	})
	if err, _ := reflect.TypeAssert[error](result[1]); err != nil {
		return err
	}
	if result[0].IsNil() {
		return fmt.Errorf("%s returned neither an output nor an error", x.op.name)
	}
	x.out.value(x.op.out, result[0].Elem())
	if repeat {
		h.answers.put(generation, q, x.out.buf)
	}
	return nil
}

var errTooLarge = appstream.Errorf(kindTooLarge, "The request body is larger than %d bytes.", maxBody)

// readBody reads the body into buf; it is valid as long as buf is not used again.
func readBody(w http.ResponseWriter, r *http.Request, buf *bytes.Buffer) ([]byte, error) {
	if r.ContentLength > maxBody {
		if r.Header.Get("Expect") == "" { // who asks before he sends gets the answer at once
			io.CopyN(io.Discard, r.Body, maxDrain)
		}
		return nil, errTooLarge
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		io.CopyN(io.Discard, r.Body, maxDrain)
		return nil, errTooLarge
	}
	if err != nil {
		if gone := r.Context().Err(); gone != nil {
			return nil, gone
		}
		return nil, appstream.Errorf(kindSerialization, "The request body could not be read: %w", err)
	}
	return buf.Bytes(), nil
}

func (h *handler) baseURL(r *http.Request) string {
	switch {
	case h.cfg.PublicURL != "":
		return h.cfg.PublicURL
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// find gives the operation that a request asks for.
func (h *handler) find(r *http.Request, cbor bool) (*operation, error) {
	target := r.Header.Get("X-Amz-Target")
	path := r.URL.Path
	if cbor {
		prefix, name, ok := strings.Cut(strings.TrimPrefix(path, "/service/"), "/operation/")
		if !ok {
			return nil, unknownOperation(path)
		}
		if r.Header.Get("Smithy-Protocol") != smithyProtocol[0] {
			return nil, appstream.Errorf(kindSerialization, "The request must have the header 'smithy-protocol: %s'.", smithyProtocol[0])
		}
		path, target = "/", prefix+"."+name
	}
	op := h.operations[target]
	if op == nil || path != "/" || r.Method != http.MethodPost {
		return nil, unknownOperation(target)
	}
	return op, nil
}

func unknownOperation(target string) error {
	const longest = 128
	return appstream.Errorf(kindUnknownOperation, "There is no operation %q.", target[:min(len(target), longest)])
}

// decode reads the input. An empty body is an input without members.
func (op *operation) decode(body []byte, cbor bool) (reflect.Value, error) {
	input := reflect.New(op.in.typ)
	if len(body) == 0 {
		return input, nil
	}
	var src source
	if cbor {
		src = newCBORSource(body)
	} else {
		src = newJSONSource(body)
	}
	err := decode(src, op.in, input.Elem())
	if _, ok := errors.AsType[*typeError](err); err != nil && !ok {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errors.New("it ends too early")
		}
		err = fmt.Errorf("The request body is malformed: %w", err)
	}
	return input, err
}

// record tells the audit log, the log and the metrics what was decided.
func (h *handler) record(x *exchange, kind appstream.Kind, err error) {
	c := &x.caller
	service, name, protocol := "", "", "json"
	if x.op != nil {
		service, name = x.op.service.IAM, x.op.name
	}
	if x.cbor {
		protocol = "cbor"
	}
	// A client that has gone away must not keep its request out of the audit log.
	ctx := context.WithoutCancel(x.r.Context())
	if h.cfg.Audit != nil {
		e := AuditEntry{
			Time: x.start, RequestID: c.RequestID, Account: c.Account, Region: c.Region, AccessKeyID: c.AccessKeyID,
			Principal: c.Principal, Source: c.Source, Service: service, Operation: name, Resources: x.resources, Result: kind,
		}
		if x.input.IsValid() {
			redacting := writer{redact: true}
			redacting.value(x.op.in, x.input.Elem())
			e.Input = redacting.buf
		}
		h.cfg.Audit(ctx, e)
	}
	took := time.Since(x.start)
	if h.cfg.Observe != nil {
		h.cfg.Observe(name, protocol, string(kind), took)
	}
	status, level := http.StatusOK, slog.LevelInfo
	if err != nil {
		status = statusOf(kind)
		if kind == appstream.Internal || kind == appstream.Unavailable {
			level = slog.LevelError
		}
	}
	if !h.cfg.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.RequestID), slog.String("service", service), slog.String("operation", name),
		slog.String("protocol", protocol), slog.Int("status", status), slog.String("code", string(kind)),
		slog.String("account", c.Account), slog.String("region", c.Region), slog.String("principal", c.Principal),
		slog.String("access_key", c.AccessKeyID), slog.String("source", c.Source.String()), slog.Duration("took", took),
		slog.Int("bytes", len(x.out.buf)),
	}
	if level == slog.LevelError {
		attrs = append(attrs, slog.String("error", err.Error()))
		if e, ok := errors.AsType[*appstream.Error](err); ok && e.Cause != nil {
			attrs = append(attrs, slog.String("cause", e.Cause.Error()))
		}
	}
	h.cfg.Log.LogAttrs(ctx, level, "request", attrs...)
}
