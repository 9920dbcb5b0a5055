package keeper

import "testing"

func TestAddressesInConflict(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"8080", ":8080", true},
		{"8080", "web=tcp:[::]:8080", true},
		{"8080", "0.0.0.0:8080", true},
		{"8080", "127.0.0.1:8080", true},
		{"8080", "8081", false},
		{"8080", "udp:8080", false},
		{"udp:8080", "udp:8080", true},
		{"127.0.0.1:8080", "127.0.0.2:8080", false},
		{"127.0.0.1:8080", "[::1]:8080", false},
		{"tcp4:0.0.0.0:8080", "tcp6:[::]:8080", false},
		{"tcp4::8080", "[::]:8080", true},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"unix:/run/a", "unix:/run/a?mode=0660", true},
		{"unix:/run/a", "unix:/run/b", false},
		{"unix:/run/a", "unixgram:/run/a", false},
		{"unix:@a", "8080", false},
	} {
		conf := Config{Services: []Service{{Name: "a", Listen: []string{c.a}}, {Name: "b", Listen: []string{c.b}}}}
		if err := conf.conflict(); (err != nil) != c.want {
			t.Errorf("%s, %s: %v", c.a, c.b, err)
		}
		conf.Services[0], conf.Services[1] = conf.Services[1], conf.Services[0]
		if err := conf.conflict(); (err != nil) != c.want {
			t.Errorf("%s, %s: %v", c.b, c.a, err)
		}
	}
}
