package keeper

import (
	"context"
	"errors"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Defaults of Config and Service.
const (
	DefaultReadyTimeout  = time.Minute
	DefaultKillTimeout   = 30 * time.Second
	DefaultStopTimeout   = 8 * time.Second
	DefaultMaxDraining   = 5
	DefaultMaxDeaths     = 5
	DefaultDeathWindow   = time.Minute
	DefaultGiveUpPause   = time.Minute
	DefaultReady         = "auto"
	DefaultCapture       = "stderr"
	DefaultStopSignal    = syscall.SIGTERM
	DefaultAliveFor      = 3 * time.Second // see Service.Ready
	DefaultOnCrashExpiry = 30 * time.Second
	DefaultRescueTimeout = vault.DefaultTimeout
)

// RestartPolicy says after which ends a worker is started again.
type RestartPolicy string

const (
	RestartAlways    RestartPolicy = "always"     // after every end that nobody asked for
	RestartOnFailure RestartPolicy = "on-failure" // not after exit status 0
	RestartNever     RestartPolicy = "no"
)

// GiveUpPolicy says what follows after too many deaths.
type GiveUpPolicy string

const (
	GiveUpPause GiveUpPolicy = "pause" // nothing is started for a while; the sockets are held, connects wait
	GiveUpExit  GiveUpPolicy = "exit"  // the keeper stops and exits
)

// Switch is on or off.
type Switch string

// What a Switch can be.
const (
	On  Switch = "on"
	Off Switch = "off"
)

// Config is what a keeper keeps. Services must have one or more entries; the
// rest works as zero value.
type Config struct {
	Services []Service
	// Reread returns the services as they are to be now: it is called, never twice
	// at once, at a SIGHUP and when an upgrade is asked for. Compared with what
	// runs, services of a name that is new are started, those whose name is gone
	// are drained and ended, those whose definition, environment file or program
	// has changed are replaced (its file, and those of its arguments that are
	// scripts by their names), and the others are not touched; if nothing has
	// changed at all, all are replaced. A change of what only the keeper goes by (the
	// number of workers, how they are replaced, restarted and given up, time-outs,
	// OnCrash, WorkerPIDFile) counts without replacing anybody. New addresses are
	// bound before anything else happens. An error, of Reread or of what it returns, leaves
	// everything as it is, and is told to whoever asked. nil: Services, for ever.
	Reread func() ([]Service, error) `json:"-"`
	// StatusFile names a file that has a control.Status as JSON in it: replaced
	// as a whole soon after each change and every few seconds, removed at the end.
	// "": none.
	StatusFile string
	// PIDFile names the file that has the keeper's own PID in it, which never
	// changes; beside it lies a lock, PIDFile + ".lock". "": none.
	PIDFile string
	// Control is the path of the control socket. "": see control.Place; "none":
	// there is none.
	Control string
	// ControlGroup is the name or number of a group whose members may use the
	// control socket too. "": only root and the keeper's user.
	ControlGroup string
	// Forward are signals that are passed on to the workers. nil: SIGUSR1,
	// SIGWINCH and SIGQUIT; empty: none.
	Forward []os.Signal
	// Observe is a TCP address, HOST:PORT or :PORT, on which GET /healthz, /readyz and
	// /metrics are answered, to anybody who asks. "": none.
	Observe string
	// Metrics makes what answers GET /metrics, there and on the control socket. It
	// is called once, with what there is to be told; ctx is done when the keeper
	// ends. nil: nothing does.
	Metrics func(ctx context.Context, b control.Backend, e *control.Events) http.Handler `json:"-"`
	// Output says what becomes of what the workers write.
	Output Output
	// Log hears what happens. nil: it goes where the workers' stderr goes, in the
	// form of Output, and doesn't block. Another logger shouldn't either: the
	// keeper waits for it.
	Log logrus.FieldLogger `json:"-"`
	// Ready is called once, when every service has had its first ready
	// generation. nil: nobody is told.
	Ready func() `json:"-"`
	// MustStart ends the keeper when it gives up a service that has never been
	// ready: somebody waits for Ready. false: such a one is tried again later, as
	// its give-up policy says.
	MustStart bool `json:"-"`
}

// Service is one kept program.
type Service struct {
	// Name in status, logs and commands. "": the program's base name.
	Name string
	// Command is the program, found by $PATH, and its arguments. Path and
	// symlinks are looked up anew at every upgrade.
	Command []string
	// Listen are the sockets that are bound at the start, held until the end, and
	// passed on as LISTEN_FDS: [NAME=]ADDR, ADDR being "8080", ":8080",
	// "127.0.0.1:0", "[::1]:80", "unix:/path?mode=0660&owner=user:group",
	// "unix:@name" or "udp:…".
	Listen []string
	// Workers is how many processes share the sockets. 0: 1.
	Workers int
	// Rolling replaces the workers one by one at an upgrade, instead of all at
	// once. The first that fails ends it, and those that were replaced go back to
	// the last good program.
	Rolling bool
	// SerialStart starts a worker when the one before it is ready, instead of all
	// at once. Without it only the first one is ahead of the others, and only where
	// the program opens sockets by itself, which the others are then given.
	SerialStart bool
	// Handover says whether idle connections move to the next generation, if the
	// program serves with this library's server. "": On.
	Handover Switch
	// Foreign says whether the sockets are also passed in the ways of
	// Server::Starter (SERVER_STARTER_PORT) and einhorn (EINHORN_FD_0 …, and an ack
	// that makes a worker ready). "": On. Programs that know neither don't
	// notice.
	Foreign Switch

	// Environment has KEY=VALUE entries beside the keeper's own environment, and
	// EnvFile a file of such lines, which is read again at every upgrade.
	Environment []string
	EnvFile     string
	// Directory to run in. "": the keeper's.
	Directory string
	// User and Group to run as, by name or number. "": the keeper's. Sockets are
	// bound before.
	User, Group string
	// Umask of the workers; nil: the keeper's.
	Umask *int
	// Limits are resource limits: "nofile=65536", "core=0:unlimited".
	Limits []string

	// Ready says how it is known that a worker is ready:
	//	auto     READY=1 (sd_notify), or this library, decides if the last generation
	//	         used it, or if it comes; else seen to wait for connections on one of
	//	         the sockets; else alive for 3 s, and the outcome is not confirmed
	//	notify   READY=1 or this library
	//	listen   seen to wait for connections
	//	fd=N     a newline is written to descriptor N
	//	delay=D  alive for so long; not confirmed
	// "": auto.
	Ready string

	ReadyTimeout time.Duration // 0: DefaultReadyTimeout; then the new one is killed
	KillTimeout  time.Duration // 0: DefaultKillTimeout; bounds a drain after an upgrade or a crash
	StopTimeout  time.Duration // 0: DefaultStopTimeout; bounds a drain at a stop
	MaxDraining  int           // 0: DefaultMaxDraining; an upgrade waits while so many generations drain
	StopSignal   os.Signal     // nil: SIGTERM

	Restart     RestartPolicy // "": always
	GiveUp      GiveUpPolicy  // "": pause
	MaxDeaths   int           // 0: DefaultMaxDeaths; more in DeathWindow: give up. <0: never
	DeathWindow time.Duration // 0: DefaultDeathWindow
	GiveUpPause time.Duration // 0: DefaultGiveUpPause

	// Watchdog is how often a worker must send WATCHDOG=1, once it has begun to:
	// else it is killed. 0: it needn't.
	Watchdog time.Duration
	// Capture says whose output passes through the keeper, which holds the last
	// lines of it for outcomes and crash reports: "stderr", "all", "none".
	// "": stderr. What doesn't pass through the keeper is the worker's own: it waits
	// for a reader who doesn't read.
	Capture string
	// WorkerPIDFile names a file that has the PID of the worker in it (the last one
	// that got ready, of several). "": none.
	WorkerPIDFile string
	// Rescue says whether the connections of a worker that dies live on, if the
	// worker serves with this library's server. "": On.
	Rescue Switch
	// RescueTimeout bounds how long what a dead worker had open stays so.
	// 0: DefaultRescueTimeout.
	RescueTimeout time.Duration
	// CrashPage names a file with the body of the 500s and 503s that requests of
	// a dead worker get. It is read at the start; its type is that of its
	// name's extension. "": a line of text.
	CrashPage string
	page      *vault.Page

	// OnCrash is a command that is run after each death and caught crash, with
	// a control.Crash as JSON on its standard input. nil: none.
	OnCrash []string
}

// Error is an error that says what to do about it.
type Error struct {
	Err  error
	Hint string // may be ""
}

func (e *Error) Error() string { return "keeper: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func hinted(err error, hint string) error { return &Error{Err: err, Hint: hint} }

// ExitError is how a kept program ended, where that ends the keeper too, or what
// it ended with at a stop.
type ExitError struct {
	Code   int            // exit status; 128+n for a signal; 126 and 127: it could not be started
	Signal syscall.Signal // 0: it exited
	Reason string
	Err    error  // why it could not be started; nil: it was
	Hint   string // what to do about it; may be ""
}

func (e *ExitError) Error() string { return "keeper: " + e.Reason }
func (e *ExitError) Unwrap() error { return e.Err }

// ErrNotSupported is what Run returns where there is no keeper: not on Linux.
var ErrNotSupported = errors.New("keeper: only Linux has what it needs")
