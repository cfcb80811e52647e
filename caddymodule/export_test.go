package caddymodule

// WaitForLogouts returns when every session that is on its way out has ended.
func WaitForLogouts() { closing.Wait() }
