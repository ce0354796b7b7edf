// Command lockstep is the whole server: its launcher and, started by the launcher, its shards and its router.
//
// Exit codes: 0 after a stop that was asked for, 1 when the server cannot run or go on, or has no status to tell, 2 for a
// command line that cannot be honoured.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// version of this build, set by the linker.
var version = "dev"

func main() {
	if os.Getenv(childMark) != "" {
		os.Exit(runChild())
	}
	os.Exit(run(os.Args[1:]))
}

// run is the launcher; it returns the exit code.
func run(arguments []string) int {
	command, err := parse(arguments, os.Stdout)
	switch {
	case errors.Is(err, errHelpShown):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "lockstep: %v\n", err)
		return 2
	case command.role == "version":
		fmt.Println("lockstep", version)
		return 0
	case command.role == "status":
		return report(command.status.run(os.Stdout), 1)
	case command.role == "simulate":
		return report(command.simulate.run(os.Stdout), 2)
	case command.role == "nats-users":
		return report(command.natsUsers.run(os.Stdout), 2)
	case command.role == "certs":
		return report(command.certs.run(os.Stdout), 2)
	}
	return serveUntilStopped(command)
}

// serveUntilStopped is every command that serves. Whether and by whom its output is read is no concern of the service: a
// closed pipe must not end it, nor a full one hold it up.
func serveUntilStopped(command command) int {
	signal.Ignore(unix.SIGPIPE)
	console, announcements := newConsole(os.Stderr), newOutlet(os.Stdout)
	defer console.Close()
	defer announcements.Close()
	log := newLogger(console, command.settings.JSONOutput, command.settings.LogLevel)
	if err := launch(command, console, announcements, log); err != nil {
		log.Error().Msg(err.Error())
		return 1
	}
	return 0
}

// report prints the error of a command that serves nothing; it returns the exit code, which is code if there is one.
func report(err error, code int) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "lockstep: %v\n", err)
	return code
}
