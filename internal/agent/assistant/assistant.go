// Package assistant is AppStreamImageAssistant, the command with which the
// administrator of an image builder chooses the applications and makes the
// image. Operations, flags, limits, messages and exit codes are those of
// AppStream's Image Assistant on Linux; create-package is one more.
//
// Each operation prints one JSON object, {"status":0,"message":"Success"}, on
// standard output and exits with its status: 0, 1 for what the user can
// correct, 255 for the unexpected.
package assistant

import (
	"bufio"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agent/control"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// Tool is the assistant in its surroundings.
type Tool struct {
	Out           io.Writer
	Administrator bool                 // whether it runs as root
	Catalogue     *catalogue.Catalogue // of this machine
	Root          string               // where to look for default icons: "/"
	// CreateImage asks the server for an image.
	CreateImage func(context.Context, agentapi.CreateImage) (agentapi.Answer, error)
	// CreatePackage asks the server for the package of an app block builder.
	CreatePackage func(context.Context) (agentapi.Answer, error)
}

// Main runs the assistant on this machine and returns the exit code.
func Main(args []string) int {
	t := &Tool{
		Out:           os.Stdout,
		Administrator: os.Geteuid() == 0,
		Catalogue:     catalogue.Open(catalogue.Dir),
		Root:          "/",
		CreateImage: func(ctx context.Context, in agentapi.CreateImage) (agentapi.Answer, error) {
			return control.CreateImage(ctx, control.Socket, in)
		},
		CreatePackage: func(ctx context.Context) (agentapi.Answer, error) { return control.CreatePackage(ctx, control.Socket) },
	}
	return t.Run(context.Background(), args)
}

// Exit codes.
const (
	exitOK         = 0
	exitRefused    = 1
	exitUnexpected = 255
)

// refusal is a failure that the user can correct: exit code 1.
type refusal string

func (r refusal) Error() string { return string(r) }

// errPrivileges is the answer to anyone but root.
const errPrivileges = refusal("Administrator privileges are required to perform this operation")

func invalid(flag string) error { return refusal("Invalid value (" + flag + ")") }

// operation is one of the assistant's commands.
type operation struct {
	name, does string
	usage      []string // a flag a line
	flags      map[string]flagKind
	root       bool // for the administrator only
	run        func(*Tool, context.Context, flags) (extra any, err error)
}

var operations = []operation{
	{name: "help", does: "Lists the operations."},
	{
		name: "add-application", does: "Adds an application to the catalogue of the image.",
		usage: []string{
			"--name NAME                    unique, at most 256 characters, no white space",
			"--absolute-app-path FILE       the program to start",
			"[--display-name TEXT]          at most 256 characters",
			"[--absolute-icon-path FILE]    .png, .jpg or .bmp, at most 256x256 pixels",
			"[--working-directory DIRECTORY]",
			"[--launch-parameters TEXT]     quotation marks in it are escaped: \\\" or \"\"",
			"[--absolute-manifest-path FILE] a list of files to read ahead, one a line",
		},
		flags: map[string]flagKind{
			"name": oneValue, "absolute-app-path": oneValue, "display-name": oneValue, "absolute-icon-path": oneValue,
			"working-directory": oneValue, "launch-parameters": oneValue, "absolute-manifest-path": oneValue,
		},
		root: true, run: (*Tool).addApplication,
	},
	{
		name: "remove-application", does: "Removes an application from the catalogue; the program stays installed.",
		usage: []string{"--name NAME"},
		flags: map[string]flagKind{"name": oneValue},
		root:  true, run: (*Tool).removeApplication,
	},
	{name: "list-applications", does: "Lists the applications in the catalogue.", run: (*Tool).listApplications},
	{
		name: "create-image", does: "Makes an image of this machine. It disconnects you and stops the image builder.",
		usage: []string{
			"--name NAME                    at most 100 of a-z A-Z 0-9 _ - .",
			"                               not beginning with aws, appstream or amazon",
			"[--description TEXT]           at most 256 characters",
			"[--display-name TEXT]          at most 256 characters",
			"[--enable-dynamic-app-catalog | --no-enable-dynamic-app-catalog]",
			"[--use-latest-agent-version | --no-use-latest-agent-version]",
			"[--tags KEY VALUE [KEY VALUE …]]",
			"[--dry-run]                    check only",
		},
		flags: map[string]flagKind{
			"name": oneValue, "description": oneValue, "display-name": oneValue, "enable-dynamic-app-catalog": onOff,
			"use-latest-agent-version": onOff, "tags": manyValues, "dry-run": switchOn,
		},
		root: true, run: (*Tool).createImage,
	},
	{
		name: "create-package", does: "Makes the package of an app block, on its builder. It disconnects you and stops it.",
		root: true, run: (*Tool).createPackage,
	},
}

// Run performs the operation that args ask for and returns the exit code.
func (t *Tool) Run(ctx context.Context, args []string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		t.help(operations)
		return exitOK
	}
	i := slices.IndexFunc(operations, func(o operation) bool { return o.name == args[0] })
	if i < 0 {
		return t.report(nil, usageError("Unknown operation: "+args[0]+". See AppStreamImageAssistant help"))
	}
	o := operations[i]
	if len(args) == 2 && (args[1] == "--help" || args[1] == "-h") {
		t.help(operations[i : i+1])
		return exitOK
	}
	if o.root && !t.Administrator {
		return t.report(nil, errPrivileges)
	}
	f, err := parseFlags(args[1:], o.flags)
	if err != nil {
		return t.report(nil, err)
	}
	extra, err := o.run(t, ctx, f)
	return t.report(extra, err)
}

func (t *Tool) help(list []operation) {
	fmt.Fprintln(t.Out, "AppStreamImageAssistant OPERATION [--help | parameters]")
	for _, o := range list {
		fmt.Fprintf(t.Out, "\n  %s\n      %s\n", o.name, o.does)
		for _, line := range o.usage {
			fmt.Fprintf(t.Out, "        %s\n", line)
		}
	}
}

// report prints the result of an operation and returns its exit code. entries
// is nil, or the list of applications.
func (t *Tool) report(entries any, err error) int {
	result := struct {
		Status       int    `json:"status"`
		Message      string `json:"message"`
		Applications any    `json:"applications,omitzero"`
	}{exitOK, "Success", entries}
	if err != nil {
		result.Status, result.Message = exitUnexpected, err.Error()
		var r refusal
		var u usageError
		if errors.As(err, &r) || errors.As(err, &u) ||
			errors.Is(err, catalogue.ErrFull) || errors.Is(err, catalogue.ErrNotUnique) || errors.Is(err, catalogue.ErrNotFound) {
			result.Status = exitRefused
		}
		// What the user typed is quoted in messages and may be any bytes.
		result.Message = strings.ToValidUTF8(result.Message, "\uFFFD")
	}
	text, err := json.Marshal(result)
	if err != nil {
		text = []byte(`{"status":255,"message":"the result cannot be printed"}`)
		result.Status = exitUnexpected
	}
	fmt.Fprintf(t.Out, "%s\n", text)
	return result.Status
}

// Limits, in characters and numbers.
const (
	maxText         = 256 // names, display names and descriptions
	maxImageName    = 100
	maxLaunch       = 1024
	maxTags         = 50
	maxTagKey       = 128
	maxTagValue     = 256
	maxManifest     = 1 << 20 // bytes
	maxManifestPath = 4096    // bytes in a line
)

func (t *Tool) addApplication(_ context.Context, f flags) (any, error) {
	e := catalogue.Entry{
		Name:             f.text["name"],
		AbsoluteAppPath:  f.text["absolute-app-path"],
		DisplayName:      f.text["display-name"],
		WorkingDirectory: f.text["working-directory"],
		LaunchParameters: unescape(f.text["launch-parameters"]),
	}
	switch {
	case !isText(e.Name, 1, maxText) || strings.ContainsFunc(e.Name, unicode.IsSpace):
		return nil, invalid("name")
	case !isText(e.DisplayName, 0, maxText):
		return nil, invalid("display-name")
	case !isText(e.LaunchParameters, 0, maxLaunch):
		return nil, invalid("launch-parameters")
	}
	if err := checkProgram(e.AbsoluteAppPath); err != nil {
		return nil, err
	}
	if e.DisplayName == "" {
		base := filepath.Base(e.AbsoluteAppPath)
		e.DisplayName = strings.ReplaceAll(strings.TrimSuffix(base, filepath.Ext(base)), " ", "_")
		if r := []rune(e.DisplayName); len(r) > maxText {
			e.DisplayName = string(r[:maxText])
		}
	}
	if dir := e.WorkingDirectory; dir != "" {
		if info, err := os.Stat(dir); !filepath.IsAbs(dir) || err != nil || !info.IsDir() {
			return nil, refusal("Directory not found (working-directory)")
		}
	}
	var err error
	if file, given := f.text["absolute-manifest-path"]; given {
		if e.Manifest, err = readManifest(file); err != nil {
			return nil, err
		}
	}
	icon, err := t.icon(f, e.AbsoluteAppPath)
	if err != nil {
		return nil, err
	}
	return nil, t.Catalogue.Add(e, icon)
}

// checkProgram says whether path can be started by users. Extensions that
// start nothing on Linux are refused as AppStream refuses those it does not know.
func checkProgram(path string) error {
	info, err := os.Stat(path)
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case !filepath.IsAbs(path) || err != nil || !info.Mode().IsRegular() || !utf8.ValidString(path):
		return refusal("File not found (absolute-app-path): " + shortPath(path))
	case ext == ".exe" || ext == ".bat" || ext == ".desktop" || info.Mode().Perm()&0o111 == 0:
		return refusal("Unsupported file extension")
	}
	return nil
}

// shortPath makes a path of any text fit for a message of one line.
func shortPath(path string) string {
	const most = 200
	if len(path) > most {
		path = path[:most] + "…"
	}
	quoted := strconv.Quote(path)
	return quoted[1 : len(quoted)-1]
}

// icon is the one that the flags name, or the one that desktops show.
func (t *Tool) icon(f flags, program string) ([]byte, error) {
	file, given := f.text["absolute-icon-path"]
	if !given {
		return catalogue.DefaultIcon(t.Root, program), nil
	}
	if !slices.Contains(catalogue.IconExtensions, strings.ToLower(filepath.Ext(file))) {
		return nil, refusal("Unsupported file extension")
	}
	if info, err := os.Stat(file); !filepath.IsAbs(file) || err != nil || !info.Mode().IsRegular() {
		return nil, refusal("File not found (absolute-icon-path): " + shortPath(file))
	}
	icon, err := catalogue.ReadIcon(file)
	if errors.Is(err, catalogue.ErrIconSize) || errors.Is(err, catalogue.ErrIconType) {
		return nil, invalid("absolute-icon-path")
	}
	return icon, err
}

// readManifest reads the list of files to read ahead; each must be there.
func readManifest(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil || !filepath.IsAbs(file) {
		return nil, refusal("Optimization-manifest not found: " + file)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, refusal("Optimization-manifest not found: " + file)
	} else if info.Size() > maxManifest {
		return nil, invalid("absolute-manifest-path")
	}
	files, err := parseManifest(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			return nil, refusal("File not found: " + name)
		}
	}
	return files, nil
}

// parseManifest takes absolute paths, one a line; blank lines do not count.
func parseManifest(r io.Reader) ([]string, error) {
	var files []string
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxManifestPath+2)
	for lines.Scan() {
		name := strings.TrimRight(lines.Text(), "\r")
		switch {
		case strings.TrimSpace(name) == "":
			continue
		case !filepath.IsAbs(name) || !utf8.ValidString(name) || strings.ContainsRune(name, 0):
			return nil, refusal("File not found: " + name)
		}
		files = append(files, name)
	}
	if lines.Err() != nil {
		return nil, invalid("absolute-manifest-path")
	}
	return files, nil
}

func (t *Tool) removeApplication(_ context.Context, f flags) (any, error) {
	return nil, t.Catalogue.Remove(f.text["name"])
}

func (t *Tool) listApplications(context.Context, flags) (any, error) {
	entries, err := t.Catalogue.Entries()
	if err != nil {
		return nil, err
	}
	if entries == nil {
		entries = []catalogue.Entry{}
	}
	return entries, nil
}

var imageName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func (t *Tool) createImage(ctx context.Context, f flags) (any, error) {
	in := agentapi.CreateImage{
		Name:                    f.text["name"],
		Description:             f.text["description"],
		DisplayName:             f.text["display-name"],
		EnableDynamicAppCatalog: f.on["enable-dynamic-app-catalog"],
		UseLatestAgentVersion:   f.on["use-latest-agent-version"],
		DryRun:                  f.on["dry-run"],
	}
	lower := strings.ToLower(in.Name)
	switch {
	case len(in.Name) > maxImageName || !imageName.MatchString(in.Name),
		strings.HasPrefix(lower, "aws"), strings.HasPrefix(lower, "amazon"), strings.HasPrefix(lower, "appstream"):
		return nil, invalid("name")
	case !isText(in.Description, 0, maxText):
		return nil, invalid("description")
	case !isText(in.DisplayName, 0, maxText):
		return nil, invalid("display-name")
	}
	if list, given := f.list["tags"]; given {
		var err error
		if in.Tags, err = parseTags(list); err != nil {
			return nil, err
		}
	}
	answer, err := t.CreateImage(ctx, in)
	if err == nil && answer.ErrorKind == agentapi.ErrorAlreadyExists {
		return nil, refusal("An image with the given name already exists")
	}
	return nil, outcome(answer, err)
}

func (t *Tool) createPackage(ctx context.Context, _ flags) (any, error) {
	return nil, outcome(t.CreatePackage(ctx))
}

// outcome makes an error of the server's word.
func outcome(answer agentapi.Answer, err error) error {
	switch {
	case err != nil:
		return err
	case answer.ErrorKind == "":
		return nil
	case answer.ErrorKind == agentapi.ErrorInvalid:
		return refusal(answer.Message)
	}
	return errors.New(answer.Message)
}

// parseTags pairs keys with values.
func parseTags(list []string) (map[string]string, error) {
	tags := map[string]string{}
	if len(list) == 0 || len(list)%2 != 0 || len(list) > 2*maxTags {
		return nil, invalid("tags")
	}
	for i := 0; i < len(list); i += 2 {
		key, value := list[i], list[i+1]
		if _, twice := tags[key]; twice || !isText(key, 1, maxTagKey) || !isText(value, 0, maxTagValue) ||
			strings.HasPrefix(strings.ToLower(key), "aws:") {
			return nil, invalid("tags")
		}
		tags[key] = value
	}
	return tags, nil
}

// isText says whether s is proper text of so many characters.
func isText(s string, least, most int) bool {
	n := utf8.RuneCountInString(s)
	return n >= least && n <= most && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}
