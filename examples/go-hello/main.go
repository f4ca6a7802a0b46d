// hello says for which machine it was compiled.
package main

import (
	"fmt"
	"runtime"
)

func main() {
	fmt.Printf("hello from Go on %s/%s\n", runtime.GOOS, runtime.GOARCH)
}
