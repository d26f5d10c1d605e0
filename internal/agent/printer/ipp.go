package printer

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/OpenPrinting/goipp"
)

// maxMessage is the longest IPP message without its document, in bytes.
const maxMessage = 64 << 10

// ippError is a refusal.
type ippError struct {
	status goipp.Status
	text   string
}

func (e *ippError) Error() string { return e.text }

// ServeHTTP answers one request: a POST with an IPP message, or a GET of the
// printer's PPD.
func (p *Printer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/printers/"+Name+".ppd":
		w.Header().Set("Content-Type", "application/vnd.cups-ppd")
		io.WriteString(w, ppd)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		http.NotFound(w, r)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "ask with POST", http.StatusMethodNotAllowed)
	case r.Header.Get("Content-Type") != goipp.ContentType:
		http.Error(w, "ask with "+goipp.ContentType, http.StatusUnsupportedMediaType)
	default:
		p.serveIPP(w, r)
	}
}

func (p *Printer) serveIPP(w http.ResponseWriter, r *http.Request) {
	// The document follows the message, so no more may be read than that.
	body := bufio.NewReader(r.Body)
	var in goipp.Message
	if err := in.Decode(io.LimitReader(body, maxMessage)); err != nil {
		http.Error(w, "this is not an IPP message", http.StatusBadRequest)
		return
	}
	out := goipp.NewResponse(in.Version, goipp.StatusOk, in.RequestID)
	out.Operation = goipp.Attributes{
		attr("attributes-charset", goipp.TagCharset, "utf-8"),
		attr("attributes-natural-language", goipp.TagLanguage, "en"),
	}
	if err := p.answer(&request{&in, body}, out); err != nil {
		e := asIPP(err)
		out.Code = goipp.Code(e.status)
		out.Operation.Add(attr("status-message", goipp.TagText, e.text))
	}
	p.log.Debug("ipp", "operation", goipp.Op(in.Code).String(), "status", goipp.Status(out.Code).String())
	text, err := out.EncodeBytes()
	if err != nil {
		p.log.Error("answer a program that prints", "error", err)
		http.Error(w, "the answer cannot be written", http.StatusInternalServerError)
		return
	}
	// A program that is still sending what was refused would not hear why.
	io.Copy(io.Discard, body)
	w.Header().Set("Content-Type", goipp.ContentType)
	w.Write(text)
}

// asIPP gives the status for an error.
func asIPP(err error) *ippError {
	if e, ok := errors.AsType[*ippError](err); ok {
		return e
	}
	status := goipp.StatusErrorTemporary // such as a full disk
	switch {
	case errors.Is(err, errFormat):
		status = goipp.StatusErrorDocumentFormatNotSupported
	case errors.Is(err, errTooLarge):
		status = goipp.StatusErrorRequestEntity
	case errors.Is(err, errFull):
		status = goipp.StatusErrorTooManyJobs
	case errors.Is(err, errOver):
		status = goipp.StatusErrorNotPossible
	}
	return &ippError{status, err.Error()}
}

// request is an IPP request; document is what follows it.
type request struct {
	*goipp.Message
	document io.Reader
}

// text gives the first value of an operation attribute, or "".
func (r *request) text(name string) string {
	if list := r.texts(name); len(list) > 0 {
		return list[0]
	}
	return ""
}

func (r *request) texts(name string) (list []string) {
	for _, a := range r.Operation {
		if a.Name == name {
			for _, v := range a.Values {
				list = append(list, v.V.String())
			}
		}
	}
	return list
}

// answer does what is asked for.
func (p *Printer) answer(in *request, out *goipp.Message) error {
	switch goipp.Op(in.Code) {
	case goipp.OpCupsGetDefault, goipp.OpCupsGetPrinters:
		out.Printer = in.wanted(p.attributes())
	case goipp.OpGetPrinterAttributes:
		if err := in.forPrinter(); err != nil {
			return err
		}
		out.Printer = in.wanted(p.attributes())
	case goipp.OpCupsGetClasses: // there are none, which is no error
		return nil
	case goipp.OpValidateJob:
		return in.checkJob()
	case goipp.OpPrintJob:
		j, err := p.create(in)
		if err != nil {
			return err
		}
		if err := p.receive(j, in.document); err != nil {
			return err
		}
		out.Job = p.describe(j)
	case goipp.OpCreateJob:
		j, err := p.create(in)
		if err != nil {
			return err
		}
		out.Job = p.describe(j)
	case goipp.OpSendDocument:
		j, err := p.find(in)
		if err != nil {
			return err
		}
		if err := in.checkJob(); err != nil {
			p.cancel(j)
			return err
		}
		if err := p.receive(j, in.document); err != nil {
			return err
		}
		out.Job = p.describe(j)
	case goipp.OpCancelJob:
		j, err := p.find(in)
		if err != nil {
			return err
		}
		return p.cancel(j)
	case goipp.OpGetJobAttributes:
		j, err := p.find(in)
		if err != nil {
			return err
		}
		out.Job = in.wanted(p.describe(j))
	case goipp.OpGetJobs:
		p.list(in, out)
	default:
		return &ippError{goipp.StatusErrorOperationNotSupported, "this printer cannot do that"}
	}
	return nil
}

// create begins a job as in asks.
func (p *Printer) create(in *request) (*job, error) {
	if err := in.checkJob(); err != nil {
		return nil, err
	}
	title := in.text("job-name")
	if title == "" {
		title = in.text("document-name")
	}
	return p.add(title)
}

// checkJob refuses what the printer cannot take before it comes. A program
// that does not know what it sends says octet-stream; store looks for itself.
func (r *request) checkJob() error {
	if err := r.forPrinter(); err != nil {
		return err
	}
	if f := r.text("document-format"); f != "" && !slices.Contains(formats, f) {
		return errFormat
	}
	if c := r.text("compression"); c != "" && c != "none" {
		return &ippError{goipp.StatusErrorCompressionNotSupported, "the printer takes documents uncompressed only"}
	}
	return nil
}

// forPrinter refuses a request for another printer. Which one is meant is said
// by an address whose host differs from program to program.
func (r *request) forPrinter() error {
	uri := r.text("printer-uri")
	if uri == "" || strings.Contains(uri, "/jobs/") || path.Base(uri) == Name {
		return nil
	}
	return &ippError{goipp.StatusErrorNotFound, "there is no such printer; this is the only one: " + Name}
}

// find finds the job that in is about.
func (p *Printer) find(in *request) (*job, error) {
	id := in.text("job-id")
	if uri := in.text("job-uri"); uri != "" {
		id = path.Base(uri)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := slices.IndexFunc(p.jobs, func(j *job) bool { return strconv.Itoa(j.id) == id })
	if n < 0 {
		return nil, &ippError{goipp.StatusErrorNotFound, "there is no such job"}
	}
	return p.jobs[n], nil
}

// list answers Get-Jobs.
func (p *Printer) list(in *request, out *goipp.Message) {
	which := in.text("which-jobs")
	limit, err := strconv.Atoi(in.text("limit"))
	if err != nil || limit <= 0 {
		limit = maxJobs
	}
	p.mu.Lock()
	jobs := slices.Clone(p.jobs)
	p.mu.Unlock()
	groups := goipp.Groups{{Tag: goipp.TagOperationGroup, Attrs: out.Operation}}
	for _, j := range jobs {
		p.mu.Lock()
		over := j.over()
		p.mu.Unlock()
		if which != "all" && over != (which == "completed") {
			continue
		}
		if len(groups) > limit {
			break
		}
		groups.Add(goipp.Group{Tag: goipp.TagJobGroup, Attrs: in.wanted(p.describe(j))})
	}
	out.Groups = groups
}

// wanted leaves of attributes those that were asked for: by name, or all.
func (r *request) wanted(all goipp.Attributes) goipp.Attributes {
	names := r.texts("requested-attributes")
	if len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(attributeGroups, n) }) {
		return all
	}
	return slices.DeleteFunc(all, func(a goipp.Attribute) bool { return !slices.Contains(names, a.Name) })
}

// attributeGroups are names that stand for many attributes.
var attributeGroups = []string{"all", "job-description", "job-template", "printer-description", "printer-defaults"}

// describe gives a job's attributes.
func (p *Printer) describe(j *job) goipp.Attributes {
	p.mu.Lock()
	defer p.mu.Unlock()
	reason := map[jobState]string{
		pending: "job-incoming", processing: "job-incoming", canceled: "job-canceled-by-user",
		aborted: "aborted-by-system", completed: "job-completed-successfully",
	}[j.state]
	list := goipp.Attributes{
		number("job-id", goipp.TagInteger, j.id),
		attr("job-uri", goipp.TagURI, p.uri("/jobs/"+strconv.Itoa(j.id))),
		attr("job-printer-uri", goipp.TagURI, p.uri("/printers/"+Name)),
		attr("job-name", goipp.TagName, j.title),
		attr("job-originating-user-name", goipp.TagName, p.user),
		number("job-state", goipp.TagEnum, int(j.state)),
		attr("job-state-reasons", goipp.TagKeyword, reason),
		number("job-k-octets", goipp.TagInteger, int((j.size+1023)/1024)),
		number("time-at-creation", goipp.TagInteger, int(j.created.Unix())),
		number("time-at-processing", goipp.TagInteger, int(j.created.Unix())),
		number("job-printer-up-time", goipp.TagInteger, int(time.Now().Unix())),
		attr("document-format", goipp.TagMimeType, pdf),
	}
	if j.over() {
		list.Add(number("time-at-completed", goipp.TagInteger, int(j.ended.Unix())))
	} else {
		list.Add(goipp.MakeAttr("time-at-completed", goipp.TagNoValue, goipp.Void{}))
	}
	return list
}

func attr(name string, tag goipp.Tag, values ...string) goipp.Attribute {
	a := goipp.Attribute{Name: name}
	for _, v := range values {
		a.Values.Add(tag, goipp.String(v))
	}
	return a
}

func number(name string, tag goipp.Tag, values ...int) goipp.Attribute {
	a := goipp.Attribute{Name: name}
	for _, v := range values {
		a.Values.Add(tag, goipp.Integer(v))
	}
	return a
}

func boolean(name string, v bool) goipp.Attribute {
	return goipp.MakeAttr(name, goipp.TagBoolean, goipp.Boolean(v))
}
