# frozen_string_literal: true

# AWS's own encryption clients, driven by tests/interop.rs: one JSON request a line on standard input, one JSON answer a line
# on standard output. Bytes travel in base64. Master keys come with the requests, never on the command line.
#
#   {"op": "put",  "client": "v1"|"v2", "key", "master", "body", ["location": "instruction_file"]}  -> {}
#   {"op": "get",  "profile": "v2"|"v2_and_legacy", "key", "master"}                                -> {"body"}
#   {"op": "look", "key", ["master"]}             as stored -> {"metadata", "body", ["data_key"]}
#
# A failure is {"error": "Class: message"}. The first line says which versions run, or why none does.

require 'json'

$stdout.sync = true
begin
  require 'aws-sdk-s3'
rescue LoadError => e
  puts JSON.generate(error: "LoadError: #{e.message}")
  exit 1
end

BUCKET = ENV.fetch('INTEROP_BUCKET')

# Everything but region, endpoint and credentials (these come from the environment) is as the AWS SDK has it by default.
S3 = Aws::S3::Client.new(
  endpoint: ENV.fetch('INTEROP_ENDPOINT'), force_path_style: true,
  retry_limit: 0, http_open_timeout: 5, http_read_timeout: 20
)

# As the reference CLI configures it; it writes nothing, so the profile that its archiver needs is ours to choose.
def v2(master, profile, location)
  Aws::S3::EncryptionV2::Client.new(
    client: S3, encryption_key: master,
    key_wrap_schema: :aes_gcm, content_encryption_schema: :aes_gcm_no_padding,
    security_profile: profile, envelope_location: location
  )
end

def v1(master, location)
  Aws::S3::Encryption::Client.new(client: S3, encryption_key: master, envelope_location: location)
end

def data_key(master, metadata)
  utils = Aws::S3::EncryptionV2::Utils
  if (wrapped = metadata['x-amz-key'])
    utils.decrypt(master, wrapped.unpack1('m'))
  else
    utils.decrypt_aes_gcm(master, metadata.fetch('x-amz-key-v2').unpack1('m'), metadata.fetch('x-amz-cek-alg'))
  end
end

def encode(bytes)
  [bytes].pack('m0')
end

def answer(req)
  object = { bucket: BUCKET, key: req.fetch('key') }
  master = req['master']&.unpack1('m0')
  case req.fetch('op')
  when 'put'
    location = req.fetch('location', 'metadata').to_sym
    client = req.fetch('client') == 'v1' ? v1(master, location) : v2(master, :v2, location)
    client.put_object(**object, body: req.fetch('body').unpack1('m0'))
    {}
  when 'get'
    got = v2(master, req.fetch('profile').to_sym, :metadata).get_object(object)
    { body: encode(got.body.read) }
  when 'look'
    got = S3.get_object(object)
    answer = { metadata: got.metadata, body: encode(got.body.read) }
    answer[:data_key] = encode(data_key(master, got.metadata)) if master
    answer
  end
end

puts JSON.generate(ready: { ruby: RUBY_VERSION, aws_sdk_s3: Aws::S3::GEM_VERSION })
$stdin.each_line do |line|
  reply =
    begin
      answer(JSON.parse(line))
    rescue StandardError => e
      { error: "#{e.class}: #{e.message}" }
    end
  puts JSON.generate(reply)
end
