package keeper

// RestartPolicy says after which ends a worker is started again.
type RestartPolicy string

const (
	RestartAlways    RestartPolicy = "always"     // after every end that nobody asked for
	RestartOnFailure RestartPolicy = "on-failure" // not after exit status 0
	RestartNever     RestartPolicy = "no"
)
