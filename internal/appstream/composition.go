package appstream

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A Composition is an image that is made for an Elastic fleet: the public image of its platform, with the packages of its applications
// set up and its session scripts in their place. The API shows nothing of it but what goes wrong.
//
//	the fleet wants it ──▶ COMPOSING ──disk captured──▶ READY
//	                        │     ▲                       │ its image vanished
//	                        ▼     │ time to try again     ▼
//	                       FAILED ┘                   COMPOSING
//	every state ──▶ DELETING ──▶ (gone)
//
// While it is COMPOSING, a machine of the public image gets the files of the recipe one after the other, does the recipe's steps as one
// job, and is stopped; its disk is captured. A machine that ends meanwhile is made anew, clean, so that no script finds what it has half done.
type Composition struct {
	Meta // Name is CompositionName; ID is the machine's too

	Fleet, FleetID string // name and record ID
	Spec           MachineSpec
	Recipe         Recipe
	Ref            string // what the provider boots, see Image.Ref

	Started     bool      // the machine has been started: if it does not run now, it has ended
	Put         int       // how many of the recipe's files are on the machine
	Step        int       // how many of the recipe's steps have begun
	Done        bool      // they are done
	Ends        int       // how often the machine has ended before that, since it is COMPOSING
	SilentSince time.Time `json:",omitzero"` // since when the machine runs and is of no use

	Failure  string    `json:",omitempty"` // FAILED: why, for people
	Failures int       // how often in a row
	Retry    time.Time `json:",omitzero"` // FAILED: when to try again
}

// The states of a composition.
const (
	CompositionComposing = "COMPOSING"
	CompositionReady     = "READY"
	CompositionFailed    = "FAILED"
	CompositionDeleting  = "DELETING"
)

// composingTime is how long a composition may take: its packages may be large, and every app block may take its time.
const composingTime = 4 * time.Hour

var compositionTransitions = []Transition{
	{"", CompositionComposing, "an Elastic fleet wants an image that it does not have"},
	{CompositionComposing, CompositionReady, "the disk is captured"},
	{CompositionComposing, CompositionFailed, "a file is missing, a script has failed, or longer than " + composingTime.String()},
	{CompositionFailed, CompositionComposing, "it is time to try again"},
	{CompositionReady, CompositionComposing, "its image vanished"},
	{CompositionComposing, CompositionDeleting, "the fleet does not want it any more"},
	{CompositionFailed, CompositionDeleting, "the fleet does not want it any more"},
	{CompositionReady, CompositionDeleting, "the fleet and its instances do not need it any more"},
	{CompositionDeleting, "", "its machine and its image are gone"},
}

// CompositionPrefix is what the names of a fleet's compositions begin with.
func CompositionPrefix(fleet string) string { return fleet + "/" }

const compositionRef = "oriel/image:"

// CompositionID is the ID of the composition whose Ref is ref.
func CompositionID(ref string) string { return strings.TrimPrefix(ref, compositionRef) }

// Applications are those that the composition's image has, as far as people see them.
func (c *Composition) Applications() (list []types.Application) {
	for _, a := range c.Recipe.Applications {
		list = append(list, types.Application{Name: a.Name, DisplayName: a.DisplayName})
	}
	return list
}

// A Recipe says what an Elastic fleet's image is made of. Two that are equal make the same image.
type Recipe struct {
	ImageARN, ImageRef string // of the public image
	Blocks             []RecipeBlock
	Applications       []types.ApplicationConfig // what the catalogue has
	Owners             []string                  // of each of them, its app block
	Scripts            *ObjectFile               `json:",omitempty"` // a zip file with session scripts
}

// RecipeBlock is an app block in a recipe.
type RecipeBlock struct {
	Name      string
	Packaging types.PackagingType
	Package   ObjectFile
	Script    *ObjectFile   `json:",omitempty"` // that sets it up
	Command   string        `json:",omitempty"` // how the script is begun
	Time      time.Duration // that it may take
}

// An ObjectFile is an object that becomes a file on a machine.
type ObjectFile struct {
	Bucket, Key string
	Size        int64
	Modified    time.Time `json:",omitzero"` // an object that has changed is another one
	Path        string    // on the machine
	Mode        uint32
}

// CatalogueSize is how many applications the catalogue of a machine can have: the Image Assistant takes no more. With no more, a recipe has no more
// steps than a job may have.
const CatalogueSize = 50

// blockDir is where an app block has its files on a machine, as on AppStream's.
func blockDir(name string) string { return "/opt/appstream/AppBlocks/" + name }

const (
	scriptsDir = "/opt/appstream/SessionScripts"
	scriptsZip = "/opt/appstream/SessionScripts.zip"
)

// NewRecipe says what the image of a fleet is to be made of, and what its catalogue has. apps are its applications, blocks their app blocks
// by name. Sizes and times of the files are still to be filled in. The problem is that of nobody, and empty, if it can be made.
func NewRecipe(f *Fleet, base *Image, apps []Application, blocks map[string]AppBlock) (r Recipe, c Catalogue, problem ElasticProblem) {
	r.ImageARN, r.ImageRef = base.ARN(), base.Ref
	c.Icons = map[string]string{}
	used := map[string]bool{}
	for _, a := range apps {
		v := a.Describe(func(string) string { return "" })
		v.IconURL = nil
		c.Applications = append(c.Applications, v)
		if a.Icon != "" {
			c.Icons[a.Name] = a.Icon
		}
		r.Applications = append(r.Applications, types.ApplicationConfig{Name: new(a.Name), DisplayName: v.DisplayName, AbsoluteAppPath: v.LaunchPath,
			LaunchParameters: v.LaunchParameters, WorkingDirectory: v.WorkingDirectory})
		arn, err := ParseARN(deref(v.AppBlockArn))
		if _, ok := blocks[arn.Name]; err != nil || !ok {
			return r, c, ElasticProblem{Text: fmt.Sprintf("The app block of the application %s does not exist any more. Give the application another with UpdateApplication.", a.Name)}
		}
		used[arn.Name] = true
		r.Owners = append(r.Owners, arn.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		b := blocks[name]
		block, problem := recipeBlock(&b)
		if problem != "" {
			return r, c, ElasticProblem{Block: name, Text: problem}
		}
		r.Blocks = append(r.Blocks, block)
	}
	if at := f.View.SessionScriptS3Location; at != nil {
		r.Scripts = &ObjectFile{Bucket: deref(at.S3Bucket), Key: deref(at.S3Key), Path: scriptsZip, Mode: 0o600}
	}
	return r, c, problem
}

func recipeBlock(b *AppBlock) (block RecipeBlock, problem string) {
	dir := blockDir(b.Name)
	file := func(at *types.S3Location, mode uint32) ObjectFile {
		return ObjectFile{Bucket: deref(at.S3Bucket), Key: deref(at.S3Key), Path: dir + "/" + path.Base(deref(at.S3Key)), Mode: mode}
	}
	v := &b.View
	if b.State != AppBlockActive || v.SourceS3Location == nil || deref(v.SourceS3Location.S3Key) == "" {
		return block, fmt.Sprintf("The app block %s is %s: it has no package yet. Make it with an app block builder.", b.Name, b.State)
	}
	block = RecipeBlock{Name: b.Name, Packaging: v.PackagingType, Package: file(v.SourceS3Location, 0o644)}
	script := v.SetupScriptDetails
	if v.PackagingType == types.PackagingTypeAppstream2 {
		script = v.PostSetupScriptDetails
	}
	if script == nil || script.ScriptS3Location == nil {
		return block, ""
	}
	block.Script = new(file(script.ScriptS3Location, 0o755))
	if script.TimeoutInSeconds != nil {
		block.Time = time.Duration(*script.TimeoutInSeconds) * time.Second
	}
	if block.Script.Path == block.Package.Path {
		return block, fmt.Sprintf("The package and the script of the app block %s are both called %s. Give one of them another key.", b.Name, path.Base(block.Package.Path))
	}
	executable := deref(script.ExecutablePath)
	if executable == path.Base(block.Script.Path) { // it is beside the package, and not in the PATH
		executable = "./" + executable
	}
	block.Command = shellWord(executable)
	if parameters := deref(script.ExecutableParameters); parameters != "" {
		block.Command += " " + parameters
	}
	return block, ""
}

// Files are the files of the recipe, in the order in which a machine gets them. Their sizes and times can be filled in.
func (r *Recipe) Files() (files []*ObjectFile) {
	for n := range r.Blocks {
		files = append(files, &r.Blocks[n].Package)
		if r.Blocks[n].Script != nil {
			files = append(files, r.Blocks[n].Script)
		}
	}
	if r.Scripts != nil {
		files = append(files, r.Scripts)
	}
	return files
}

// BlockOf is the app block that a file belongs to; "" for none.
func (r *Recipe) BlockOf(file *ObjectFile) string {
	for n := range r.Blocks {
		if b := &r.Blocks[n]; file == &b.Package || file == b.Script {
			return b.Name
		}
	}
	return ""
}

// Digest tells recipes of a fleet apart.
func (r *Recipe) Digest(fleetID string) (string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("write down what the image of a fleet is made of: %w", err)
	}
	sum := sha256.Sum256(append([]byte(fleetID+"\n"), text...))
	return hex.EncodeToString(sum[:16]), nil
}

// Steps is what the machine does when it has the files. blocks has for each step the app block that it is for; "" for none.
func (r *Recipe) Steps() (steps []JobStep, blocks []string) {
	add := func(block string, step ...JobStep) {
		for _, s := range step {
			steps, blocks = append(steps, s), append(blocks, block)
		}
	}
	native := func(b RecipeBlock) bool { return b.Packaging == types.PackagingTypeAppstream2 }
	several := len(r.Blocks) > 1 && slices.ContainsFunc(r.Blocks, native) // of which each brings lists of its own
	if several {
		add("", JobStep{Name: "look what the machine has", Command: mergeCommand + "first", Time: time.Minute})
	}
	for n := range r.Blocks {
		b := &r.Blocks[n]
		if native(*b) {
			command := unpack(b.Package.Path)
			if several {
				command = mergeCommand + "before\n" + command + "\n" + mergeCommand + "after"
			}
			add(b.Name, JobStep{Name: "unpack the app block " + b.Name, Command: command, Time: time.Hour})
		}
		if b.Script != nil {
			add(b.Name, JobStep{Name: "set up the app block " + b.Name, Command: "cd " + shellWord(blockDir(b.Name)) + "\n" + b.Command, Time: b.Time})
		}
	}
	if several {
		add("", JobStep{Name: "put the app blocks together", Command: refresh, Time: 10 * time.Minute})
	}
	if r.Scripts != nil {
		add("", JobStep{Name: "unpack the session scripts", Time: 10 * time.Minute, Command: "rm -rf " + scriptsDir +
			"\n/opt/oriel/bin/oriel-agent unzip " + scriptsZip + " " + scriptsDir + "\nrm " + scriptsZip +
			"\n[ -f " + scriptsDir + "/config.json ] || { echo 'There is no config.json at the top of the zip file.'; exit 1; }"})
	}
	for n, step := range CatalogueSteps(r.Applications) {
		step.Name = "add the application " + deref(r.Applications[n].Name)
		add(r.Owners[n], step) // a program that is missing is its fault
	}
	add("", JobStep{Name: "clean up", Command: "rm -rf /var/lib/apt/lists/* /root/.cache", Time: 10 * time.Minute})
	return steps, blocks
}

// mergeCommand has the agent keep the lists of what is installed together that packages bring.
const mergeCommand = "/opt/oriel/bin/oriel-agent merge "

// refresh makes anew what installations keep of other files, for programs to find these faster: each package has it as if it were alone. A program
// that is not there is not needed.
const refresh = `run() { if command -v "$1" >/dev/null; then "$@" || echo "$1 has failed"; fi; }
for dir in /usr/lib/*/glib-2.0 /usr/lib/*/gdk-pixbuf-2.0 /usr/lib/*/libgtk-3-0; do PATH=$PATH:$dir; done
run ldconfig
run glib-compile-schemas /usr/share/glib-2.0/schemas
run update-mime-database /usr/share/mime
run update-desktop-database
run gdk-pixbuf-query-loaders --update-cache
run gtk-query-immodules-3.0 --update-cache
for cache in /usr/share/icons/*/icon-theme.cache; do
	if [ -f "$cache" ]; then run gtk-update-icon-cache --force --quiet "${cache%/*}"; fi
done
run fc-cache --system-only`

// unpack extracts a package over the disk. What the engine mounts into a machine cannot be replaced, and no package may.
func unpack(file string) string {
	var command strings.Builder
	command.WriteString("tar --extract --directory=/ --numeric-owner --same-owner --preserve-permissions --xattrs --xattrs-include='*' --keep-directory-symlink --anchored")
	for _, mounted := range []string{"dev", "proc", "sys", "run", "tmp", "opt/oriel", "etc/hosts", "etc/hostname", "etc/resolv.conf"} {
		for _, root := range []string{"", "./", "/"} {
			command.WriteString(" --exclude=" + root + mounted)
		}
	}
	command.WriteString(" --file=" + shellWord(file) + "\nrm " + shellWord(file))
	return command.String()
}

// EnsureFilePut has a machine have an object of an account as a file of root's. One that has changed since it was looked at is refused for good.
type EnsureFilePut struct {
	Machine, Account string
	File             ObjectFile
}

// String names the action.
func (a EnsureFilePut) String() string { return "EnsureFilePut " + a.Machine + " " + a.File.Path }

// newComposition begins a composition for a fleet.
func (f *Fleet) newComposition(id, name, agent string, r *Recipe, sizes map[string]InstanceType, now time.Time) Composition {
	c := Composition{Meta: Meta{Key: Key{f.Account, f.Region, NounComposition, name}, ID: id, Created: now, Due: now},
		Fleet: f.Name, FleetID: f.ID, Recipe: *r, Ref: compositionRef + id}
	c.Spec = f.Spec(id, agent, sizes)
	c.Spec.ImageARN, c.Spec.ImageRef, c.Spec.Sessions = r.ImageARN, r.ImageRef, 0
	c.begin(now)
	return c
}

// begin makes the composition COMPOSING, with a machine that is still to be made.
func (c *Composition) begin(now time.Time) {
	c.clean()
	c.Ends = 0
	c.Enter(CompositionComposing, now, composingTime)
}

// clean is for a machine that is still to be made.
func (c *Composition) clean() {
	c.Started, c.Put, c.Step, c.Done, c.SilentSince = false, 0, 0, false, time.Time{}
}

// Job is the ID of the job that the composition's machine shall be doing; "" for none.
func (c *Composition) Job() string {
	if c.State == CompositionComposing && c.Put == len(c.Recipe.Files()) && !c.Done {
		return "compose"
	}
	return ""
}

// CompositionSnapshot is the world as PlanComposition sees it.
type CompositionSnapshot struct {
	Composition Composition
	Fleet       *Fleet     // nil when it is gone, or is another one of that name
	Blocks      []AppBlock // of the recipe, those that there still are
	Machine     Machine
	Agent       Agent
	Job         JobStatus
	Exists      bool // COMPOSING and READY: the provider has the whole image
}

// machineEnds is how often the machine of a composition may end before its steps are done.
const machineEnds = 3

// setupFailed is the ErrorCode of an app block whose package could not be set up.
const setupFailed = "APP_BLOCK_SETUP_FAILED"

// PlanComposition decides the next step of a composition. It is pure. Which compositions there shall be is for PlanFleet.
func PlanComposition(s CompositionSnapshot, now time.Time) Decision[Composition] {
	c := s.Composition
	running := s.Fleet != nil && (s.Fleet.State == FleetStarting || s.Fleet.State == FleetRunning)
	if c.State != CompositionDeleting && (s.Fleet == nil || c.State != CompositionReady && !running) {
		c.Enter(CompositionDeleting, now, 0)
		return Decision[Composition]{Next: c, Again: now, Why: "the fleet does not want it any more"}
	}
	gone := []Action{EnsureGone{c.ID}, EnsureImageGone{c.Ref}}
	switch c.State {
	case CompositionComposing:
		return planComposing(s, now)
	case CompositionReady:
		if s.Exists {
			return Decision[Composition]{Next: c}
		}
		c.begin(now)
		return Decision[Composition]{Next: c, Again: now, Wake: c.fleetKey(), Why: "its image vanished"}
	case CompositionFailed:
		if now.Before(c.Retry) { // what it has left goes meanwhile
			return Decision[Composition]{Next: c, Do: gone, Again: c.Retry}
		}
		c.begin(now)
		return Decision[Composition]{Next: c, Do: gone, Again: now, Why: "it is time to try again"}
	}
	d := Decision[Composition]{Next: c, Do: gone, Remove: s.Machine.Phase == MachineAbsent, Wake: c.fleetKey(), Why: "its machine and its image are gone"}
	if !d.Remove {
		d.Again = soon(s.Machine, now)
	}
	return d
}

func planComposing(s CompositionSnapshot, now time.Time) Decision[Composition] {
	c, m := s.Composition, s.Machine
	next := func(again time.Time, do ...Action) Decision[Composition] {
		return Decision[Composition]{Next: c, Do: do, Again: again}
	}
	files := c.Recipe.Files()
	switch p := c.Problem; {
	case s.Exists && m.Phase != MachineAbsent:
		return next(soon(m, now), EnsureGone{c.ID})
	case s.Exists:
		return s.ready(now)
	case p != nil && p.Lasting:
		block := ""
		if m.Phase == MachineRunning && c.Put < len(files) {
			block = c.Recipe.BlockOf(files[c.Put])
		}
		return s.fail(block, p.Message, now)
	case c.Overdue(now) && !m.NextChange.After(now):
		return s.fail("", "It was not done within "+composingTime.String()+"."+lastWords(p, s.Agent), now)
	case c.Done && m.Phase == MachineRunning:
		return next(soon(m, now), EnsureStopped{c.ID})
	case c.Done && m.Phase == MachineStopped:
		return next(soon(m, now), EnsureCaptured{c.ID, c.Ref})
	case m.Phase == MachineRunning:
		return s.work(now)
	case c.Ends >= machineEnds:
		return s.fail("", fmt.Sprintf("Its machine ended %d times, last with exit code %d. A script must not stop the machine.", c.Ends, m.ExitCode), now)
	case c.Started: // it has ended: the next one begins clean
		c.clean()
		c.Ends++
		return next(now, EnsureGone{c.ID})
	}
	c.Started = true
	return next(now, EnsureRunning{c.Spec})
}

// work has a machine that runs get its files and do its steps.
func (s *CompositionSnapshot) work(now time.Time) Decision[Composition] {
	c, m, files := s.Composition, s.Machine, s.Composition.Recipe.Files()
	c.Started = true // whoever started it: a pass may have ended before it could note that
	d := Decision[Composition]{Next: c, Again: now}
	job := c.Job() != ""
	if job && !s.Job.Answers || !s.Job.Known && !s.Agent.Ready {
		if c.SilentSince.IsZero() {
			d.Next.SilentSince = now
		}
		silent := now.Sub(d.Next.SilentSince)
		if silent >= readyLimit && !m.NextChange.After(now) {
			return s.fail("", fmt.Sprintf("Its machine ran for %s and its desktop did not draw, or its agent did not answer.%s", readyLimit, lastWords(nil, s.Agent)), now)
		}
		d.Again = now.Add(pollAfter(silent))
		if m.NextChange.After(now) {
			d.Again = m.NextChange
		}
		return d
	}
	d.Next.SilentSince = time.Time{}
	steps, blocks := c.Recipe.Steps()
	switch j := s.Job; {
	case !job:
		d.Do = []Action{EnsureFilePut{c.ID, c.Account, *files[c.Put]}}
		d.Next.Put++
	case !j.Known && c.Step > 0: // somebody has started it again since: it ends for us too
		d.Do = []Action{EnsureStopped{c.ID}}
	case !j.Known:
		d.Next.Step, d.Do = 1, []Action{EnsureJobBegun{c.ID, Job{c.Job(), steps}}}
	case j.Succeeded():
		d.Next.Step, d.Next.Done, d.Do = len(steps), true, []Action{EnsureStopped{c.ID}}
	case j.Ended:
		s.Composition.Step = min(j.Step+1, len(steps))
		block := ""
		if j.Step >= 0 && j.Step < len(blocks) {
			block = blocks[j.Step]
		}
		d = s.fail(block, jobFailure(j), now)
		d.Why = j.Problem // not the output: events and logs are for others' eyes
		return d
	default:
		d.Next.Step, d.Again = max(c.Step, min(j.Step+1, len(steps))), now.Add(time.Second)
	}
	return d
}

// ready says that the image is there.
func (s *CompositionSnapshot) ready(now time.Time) Decision[Composition] {
	c := s.Composition
	c.Enter(CompositionReady, now, 0)
	c.Failures, c.Failure = 0, ""
	d := Decision[Composition]{Next: c, Wake: c.fleetKey(), Why: "the disk is captured"}
	for _, b := range s.Blocks {
		d.Also = append(d.Also, b.setError("")...)
	}
	return d
}

// fail gives the composition up for now. The app block that is to blame says so too.
func (s *CompositionSnapshot) fail(block, why string, now time.Time) Decision[Composition] {
	c := s.Composition
	c.Enter(CompositionFailed, now, 0)
	c.Failure = "The image of the fleet could not be made: " + why
	c.Failures++
	c.Retry = now.Add(compositionBackoff(c.Failures))
	d := Decision[Composition]{Next: c, Again: now, Wake: c.fleetKey(), Why: why}
	for _, b := range s.Blocks {
		if b.Name == block {
			d.Also = b.setError(why)
		}
	}
	return d
}

// compositionBackoff is how long to wait after failures in a row: 1 minute, doubling, at most 10.
func compositionBackoff(failures int) time.Duration {
	return min(time.Minute<<min(max(failures, 1)-1, 10), 10*time.Minute)
}

// setError says on an app block why it could not be set up, or, with "", that it could.
func (b AppBlock) setError(why string) []Also {
	said := ""
	list := slices.DeleteFunc(slices.Clone(b.View.AppBlockErrors), func(e types.ErrorDetails) bool {
		if deref(e.ErrorCode) != setupFailed {
			return false
		}
		said = deref(e.ErrorMessage)
		return true
	})
	if said == why {
		return nil
	}
	if why != "" {
		list = append(list, types.ErrorDetails{ErrorCode: new(setupFailed), ErrorMessage: &why})
	}
	b.View.AppBlockErrors = list
	return []Also{{Record: &b, From: b.State}}
}

func (c *Composition) fleetKey() []Key { return []Key{{c.Account, c.Region, NounFleet, c.Fleet}} }

// PublicImageOf is the public image that app block builders and Elastic fleets of a platform are made of: the newest one that is AVAILABLE, so
// that what was packaged on one fits the other; nil if there is none.
func PublicImageOf(public []Image, platform types.PlatformType) *Image {
	released := func(i *Image) (at time.Time) {
		if i.View.PublicBaseImageReleasedDate != nil {
			at = *i.View.PublicBaseImageReleasedDate
		}
		return at
	}
	var best *Image
	for n := range public {
		i := &public[n]
		if i.State != ImageAvailable || i.View.Platform != platform {
			continue
		}
		if best == nil || cmp.Or(released(best).Compare(released(i)), strings.Compare(i.Name, best.Name)) < 0 {
			best = i
		}
	}
	return best
}
