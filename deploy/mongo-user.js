// The official image runs this once, when it makes its data: the user of ours, for one database alone (MONGO_INITDB_DATABASE).
const password = require('fs').readFileSync('/run/secrets/mongo_password', 'utf8').trim();
db.createUser({user: 'haul', pwd: password, roles: ['readWrite']});
