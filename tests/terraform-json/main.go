// Command terraform-json reads files of Terraform's plan JSON with the library that other tools read them with, and says
// which of them are well formed.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	tfjson "github.com/hashicorp/terraform-json"
)

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Unmarshal checks the plan's format version, but not those of the parts in it.
	var plan tfjson.Plan
	if err := json.Unmarshal(text, &plan); err != nil {
		return err
	}
	if plan.Config != nil {
		if err := plan.Config.Validate(); err != nil {
			return err
		}
	}
	if plan.PriorState != nil {
		if err := plan.PriorState.Validate(); err != nil {
			return err
		}
	}
	for _, change := range plan.ResourceChanges {
		actions := change.Change.Actions
		known := actions.NoOp() || actions.Create() || actions.Read() || actions.Update() || actions.Delete() ||
			actions.Replace() || actions.Forget()
		if !known {
			return fmt.Errorf("%s: unknown actions %v", change.Address, actions)
		}
	}
	return nil
}

func main() {
	failed := false
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			failed = true
			continue
		}
		fmt.Printf("OK %s\n", path)
	}
	if failed || len(os.Args) < 2 {
		os.Exit(1)
	}
}
