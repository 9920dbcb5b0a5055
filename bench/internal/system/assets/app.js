// The measured service under Node's cluster, two workers. SIGHUP replaces them:
// new ones first, then the old ones are disconnected.
'use strict';
const cluster = require('node:cluster');
const fs = require('node:fs');
const http = require('node:http');

const [host, port] = process.env.BENCH_ADDR.split(':');

if (cluster.isPrimary) primary();
else worker();

function primary() {
  // Node has no flock; the primary alone numbers the workers.
  const fork = () => {
    const path = process.env.BENCH_COUNTER;
    const there = fs.existsSync(path);
    const n = 1 + Number(there ? fs.readFileSync(path, 'utf8') : 0);
    fs.writeFileSync(path, String(n), { flag: there ? 'r+' : 'w' });
    return cluster.fork({ BENCH_GENERATION: n });
  };
  const leaving = new Set();
  // A worker that disconnects by itself (graceful), or dies, is replaced.
  const replace = (w) => {
    if (leaving.has(w.id)) return;
    leaving.add(w.id);
    fork();
  };
  cluster.on('disconnect', replace);
  cluster.on('exit', replace);
  process.on('SIGHUP', async () => {
    const old = Object.values(cluster.workers).filter((w) => !leaving.has(w.id));
    await Promise.all(old.map(() => new Promise((listening) => fork().once('listening', listening))));
    for (const w of old) {
      leaving.add(w.id);
      w.disconnect();
    }
  });
  fork();
  fork();
}

function worker() {
  const { graceful } = require('graceful');
  const server = http.createServer((req, res) => {
    const id = req.headers['x-request-id'] || '';
    res.setHeader('X-Request-Id', id);
    res.setHeader('X-Generation', process.env.BENCH_GENERATION);
    res.setHeader('X-Pid', process.pid);
    const url = new URL(req.url, 'http://localhost');
    if (url.pathname === '/echo') {
      const parts = [];
      req.on('data', (d) => parts.push(d));
      req.on('end', () => res.end(Buffer.concat(parts)));
    } else if (url.pathname === '/slow') {
      setTimeout(() => res.end('at last\n'), Number(url.searchParams.get('ms')));
    } else if (url.pathname === '/panic') {
      setImmediate(() => { throw new Error('nobody catches this'); });
    } else {
      res.end(id + '\n');
    }
  });
  server.on('upgrade', (req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n' +
      `X-Request-Id: ${req.headers['x-request-id']}\r\nX-Generation: ${process.env.BENCH_GENERATION}\r\nX-Pid: ${process.pid}\r\n\r\n`);
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  // As long as the other programs keep idle connections; Node's own 5 s would
  // be counted as connections that an upgrade closed.
  server.keepAliveTimeout = 120e3;
  server.listen(Number(port), host);
  graceful({ servers: [server], killTimeout: '5s' });
}
