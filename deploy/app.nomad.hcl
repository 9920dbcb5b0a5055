# A job for Nomad's exec driver: see docs/containers.md.
job "app" {
  type = "service"

  group "app" {
    count = 3

    network {
      port "http" {}
      port "metrics" {}
    }

    # A death of the program is the keeper's affair. Its own end is Nomad's.
    restart {
      attempts = 3
      interval = "5m"
      delay    = "1s"
      mode     = "delay"
    }

    # First a new allocation that is healthy, then an old one ends.
    update {
      max_parallel = 1
      canary       = 1
      auto_promote = true
      health_check = "checks"
    }

    task "app" {
      driver = "exec"

      config {
        command = "/usr/bin/tablecloth"
        args = [
          "run",
          "--listen", "${NOMAD_ADDR_http}",
          "--metrics", "${NOMAD_ADDR_metrics}",
          "--control", "${NOMAD_ALLOC_DIR}/control",
          "--", "/usr/bin/app", "-listen", "${NOMAD_ADDR_http}",
        ]
      }

      # SIGTERM, and SIGKILL after kill_timeout: longer than --stop-timeout (8 s).
      # shutdown_delay comes before: requests find elsewhere first.
      kill_signal    = "SIGTERM"
      kill_timeout   = "15s"
      shutdown_delay = "5s"

      # "nomad alloc signal -s SIGHUP" upgrades, and so does a template that has
      # changed with change_mode = "signal", change_signal = "SIGHUP".

      service {
        name = "app"
        port = "http"

        check {
          type     = "http"
          port     = "metrics"
          path     = "/readyz"
          interval = "5s"
          timeout  = "2s"
        }
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
