"""graphite-web over carbon's files; what it keeps itself is thrown away with the container."""
SECRET_KEY = 'this container lives for one test'
GRAPHITE_ROOT = '/usr/share/graphite-web'
CONF_DIR = STORAGE_DIR = LOG_DIR = '/tmp'
LOG_ROTATION = False
INDEX_FILE = '/tmp/index'
WHISPER_DIR = '/opt/graphite/storage/whisper'
STANDARD_DIRS = [WHISPER_DIR]
CARBONLINK_HOSTS = []
TIME_ZONE = 'UTC'
DATABASES = {'default': {'NAME': '/tmp/graphite.db', 'ENGINE': 'django.db.backends.sqlite3'}}
