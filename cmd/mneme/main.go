// Command mneme serves a language model to many agents and keeps what each of
// them said in memory that lasts. It only calls cli.
package main

import (
	"os"

	"mneme/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Process()))
}
