// The official image runs this once, when it makes its data: the user of ours, for one database (MONGO_INITDB_DATABASE), and for the
// scratch one in which backups are tried.
const password = require('fs').readFileSync('/run/secrets/mongo_password', 'utf8').trim();
db.createUser({user: 'haul', pwd: password, roles: ['readWrite', {role: 'readWrite', db: `${db.getName()}_haul_drill`}]});
