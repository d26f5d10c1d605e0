package agent

import (
	"path/filepath"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agent/control"
	"github.com/oriel-project/oriel/internal/agent/scripts"
	"github.com/oriel-project/oriel/internal/agent/sudo"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// paths says where everything is; tests move it all under another root.
type paths struct {
	shared      string // agentapi.Dir
	private     string // the agent's own directory, for this start only
	tmp         string // where X keeps its locks and sockets
	userRuntime string // XDG_RUNTIME_DIR
	catalogue   string
	profile     string // the shell's AppStream variables
	locale      string
	environment string // what the image gives to programs of the desktop
	sudo        string // the socket that sudo connects to
	control     string // the socket of the Image Assistant and reboot
	xvnc        string
	session     string
	sound       string // the sound server, see package sound
	bus         string // the program that is a desktop's bus
	busConfig   string
	arrivals    string // files that are being put on an image builder

	// Of a fleet's instance.
	etc         string // the lists of accounts, and skel
	homes       string
	rootHome    string
	counter     string // how many accounts were made, see accounts
	mail, cron  string
	userProfile string // the shell's variables of the session
	scripts     string
	scriptLogs  string
	localtime   string
	zones       string
	localeList  string // the program that lists locales
	ipc         string
	disks       [5]string // where the files of people can be
}

func pathsUnder(root string) paths {
	p := paths{
		shared:      agentapi.Dir,
		private:     "/run/oriel-agent",
		tmp:         "/tmp",
		userRuntime: "/run/user/1000",
		catalogue:   catalogue.Dir,
		profile:     "/etc/profile.d/appstream_system_vars.sh",
		locale:      "/etc/default/locale",
		environment: "/etc/oriel/environment",
		sudo:        sudo.Socket,
		control:     control.Socket,
		xvnc:        "/usr/bin/Xvnc",
		session:     "/etc/oriel/session",
		sound:       "/etc/oriel/sound",
		bus:         "/usr/bin/dbus-daemon",
		busConfig:   "/etc/oriel/session-bus.conf",
		arrivals:    "/var/lib/oriel-agent/arrivals",

		etc:         "/etc",
		homes:       "/home",
		rootHome:    "/root",
		counter:     "/var/lib/oriel-agent/last-uid",
		mail:        "/var/mail",
		cron:        "/var/spool/cron/crontabs",
		userProfile: "/etc/profile.d/appstream_user_vars.sh",
		scripts:     scripts.File,
		scriptLogs:  "/var/log/oriel/session-scripts",
		localtime:   "/etc/localtime",
		zones:       "/usr/share/zoneinfo",
		localeList:  "/usr/bin/locale",
		ipc:         "/proc/sysvipc",
		disks:       [...]string{"/", "/tmp", "/run", "/dev/shm", "/dev/mqueue"},
	}
	for _, s := range []*string{&p.shared, &p.private, &p.tmp, &p.userRuntime, &p.catalogue, &p.profile, &p.locale, &p.environment, &p.sudo, &p.control, &p.xvnc, &p.session, &p.sound, &p.bus, &p.busConfig, &p.arrivals,
		&p.etc, &p.homes, &p.rootHome, &p.counter, &p.mail, &p.cron, &p.userProfile, &p.scripts, &p.scriptLogs, &p.localtime, &p.zones, &p.localeList, &p.ipc} {
		*s = filepath.Join(root, *s)
	}
	for n := range p.disks {
		p.disks[n] = filepath.Join(root, p.disks[n])
	}
	return p
}

func (p paths) config() string     { return filepath.Join(p.shared, agentapi.ConfigName) }
func (p paths) socket() string     { return filepath.Join(p.shared, agentapi.SocketName) }
func (p paths) displayDir() string { return filepath.Join(p.private, "display") }
