package sd_test

import (
	"fmt"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

func ExampleNameOf() {
	name := sd.NameOf("tcp,[::]:8080")
	key, ok := sd.KeyOf(name)
	fmt.Println(name)
	fmt.Println(key, ok)
	// Output:
	// tcp,[%3A%3A]%3A8080
	// tcp,[::]:8080 true
}

func ExampleMessage() {
	data, err := sd.Message{}.MainPID(4712).Status("upgraded\nto 1.2").Marshal()
	fmt.Printf("%s%v", data, err)
	// Output:
	// MAINPID=4712
	// STATUS=upgraded to 1.2
	// <nil>
}
