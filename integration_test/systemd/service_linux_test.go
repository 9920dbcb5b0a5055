package systemd

const roleService = "service"

func serve() int { return 0 }
