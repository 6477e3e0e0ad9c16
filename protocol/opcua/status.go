package opcua

import (
	"cmp"
	"fmt"
)

// Status is a StatusCode: how good a value is, or how a service ended.
type Status uint32

// The codes that something follows from (IEC 62541-6 annex A, the Foundation's
// StatusCode.csv).
const (
	Good                            Status = 0
	GoodLocalOverride               Status = 0x00960000
	BadUnexpectedError              Status = 0x80010000
	BadCommunicationError           Status = 0x80050000
	BadServiceUnsupported           Status = 0x800B0000
	BadTooManyOperations            Status = 0x80100000
	BadCertificateInvalid           Status = 0x80120000
	BadSecurityChecksFailed         Status = 0x80130000
	BadCertificateTimeInvalid       Status = 0x80140000
	BadCertificateURIInvalid        Status = 0x80170000
	BadCertificateUseNotAllowed     Status = 0x80180000
	BadCertificateUntrusted         Status = 0x801A0000
	BadUserAccessDenied             Status = 0x801F0000
	BadIdentityTokenInvalid         Status = 0x80200000
	BadIdentityTokenRejected        Status = 0x80210000
	BadSecureChannelIDInvalid       Status = 0x80220000
	BadSessionIDInvalid             Status = 0x80250000
	BadNodeIDInvalid                Status = 0x80330000
	BadNodeIDUnknown                Status = 0x80340000
	BadAttributeIDInvalid           Status = 0x80350000
	BadNotReadable                  Status = 0x803A0000
	BadSecurityModeRejected         Status = 0x80540000
	BadSecurityPolicyRejected       Status = 0x80550000
	BadTooManySessions              Status = 0x80560000
	BadTCPEndpointURLInvalid        Status = 0x80830000
	BadDeviceFailure                Status = 0x808B0000
	BadSensorFailure                Status = 0x808C0000
	UncertainLastUsableValue        Status = 0x40900000
	statusCodeMask                  Status = 0xffff0000
	severityMask                    Status = 0xc0000000
	severityUncertain               Status = 0x40000000
	UncertainNoCommunicationLastVal Status = 0x408F0000
)

// statusNames are the names of the codes that a technician meets.
var statusNames = map[Status]string{
	Good: "Good", 0x40000000: "Uncertain", 0x80000000: "Bad",
	BadUnexpectedError: "BadUnexpectedError", 0x80020000: "BadInternalError", 0x80030000: "BadOutOfMemory", 0x80040000: "BadResourceUnavailable",
	BadCommunicationError: "BadCommunicationError", 0x80060000: "BadEncodingError", 0x80070000: "BadDecodingError", 0x80080000: "BadEncodingLimitsExceeded",
	0x800A0000: "BadTimeout", BadServiceUnsupported: "BadServiceUnsupported", 0x800C0000: "BadShutdown", 0x800D0000: "BadServerNotConnected", 0x800E0000: "BadServerHalted",
	BadTooManyOperations: "BadTooManyOperations", BadCertificateInvalid: "BadCertificateInvalid", BadSecurityChecksFailed: "BadSecurityChecksFailed",
	BadCertificateTimeInvalid: "BadCertificateTimeInvalid", 0x80160000: "BadCertificateHostNameInvalid", BadCertificateURIInvalid: "BadCertificateUriInvalid",
	BadCertificateUseNotAllowed: "BadCertificateUseNotAllowed", 0x80190000: "BadCertificateIssuerUseNotAllowed", BadCertificateUntrusted: "BadCertificateUntrusted",
	0x801B0000: "BadCertificateRevocationUnknown", 0x801D0000: "BadCertificateRevoked", 0x810D0000: "BadCertificateChainIncomplete",
	BadUserAccessDenied: "BadUserAccessDenied", BadIdentityTokenInvalid: "BadIdentityTokenInvalid", BadIdentityTokenRejected: "BadIdentityTokenRejected",
	BadSecureChannelIDInvalid: "BadSecureChannelIdInvalid", 0x80240000: "BadNonceInvalid", BadSessionIDInvalid: "BadSessionIdInvalid", 0x80260000: "BadSessionClosed",
	0x80270000: "BadSessionNotActivated", 0x80310000: "BadNoCommunication", 0x80320000: "BadWaitingForInitialData", BadNodeIDInvalid: "BadNodeIdInvalid",
	BadNodeIDUnknown: "BadNodeIdUnknown", BadAttributeIDInvalid: "BadAttributeIdInvalid", BadNotReadable: "BadNotReadable",
	BadSecurityModeRejected: "BadSecurityModeRejected", BadSecurityPolicyRejected: "BadSecurityPolicyRejected", BadTooManySessions: "BadTooManySessions",
	0x80570000: "BadUserSignatureInvalid", 0x80580000: "BadApplicationSignatureInvalid", 0x807D0000: "BadTcpServerTooBusy", 0x807E0000: "BadTcpMessageTypeInvalid",
	0x807F0000: "BadTcpSecureChannelUnknown", 0x80800000: "BadTcpMessageTooLarge", 0x80810000: "BadTcpNotEnoughResources", 0x80820000: "BadTcpInternalError",
	BadTCPEndpointURLInvalid: "BadTcpEndpointUrlInvalid", 0x80860000: "BadSecureChannelClosed", 0x80870000: "BadSecureChannelTokenUnknown",
	0x80890000: "BadConfigurationError", 0x808A0000: "BadNotConnected", BadDeviceFailure: "BadDeviceFailure", BadSensorFailure: "BadSensorFailure",
	0x808D0000: "BadOutOfService", UncertainNoCommunicationLastVal: "UncertainNoCommunicationLastUsableValue", UncertainLastUsableValue: "UncertainLastUsableValue",
	0x40910000: "UncertainSubstituteValue", 0x40920000: "UncertainInitialValue", 0x40930000: "UncertainSensorNotAccurate",
	0x40940000: "UncertainEngineeringUnitsExceeded", 0x40950000: "UncertainSubNormal", 0x42080000: "UncertainTransducerInManual",
	0x42090000: "UncertainSimulatedValue", 0x420A0000: "UncertainSensorCalibration", 0x809B0000: "BadNoData", 0x809E0000: "BadDataUnavailable",
	0x80AC0000: "BadConnectionRejected", 0x80AE0000: "BadConnectionClosed", 0x80B80000: "BadRequestTooLarge", 0x80B90000: "BadResponseTooLarge",
	0x80BE0000: "BadProtocolVersionUnsupported",
}

// notLive are the codes whose severity is good and whose value is not what its source shows
// now (IEC 62541-8 6.3.2 for the first, and the Foundation's StatusCode.csv): put in by hand,
// changed and not applied to the device, the replacement of a source in its fault state, or none.
// All others are of live values: clamped, sampled less often, of a cascade.
var notLive = map[Status]string{
	GoodLocalOverride: "GoodLocalOverride", 0x00DC0000: "GoodEdited", 0x00E00000: "GoodDependentValueChanged",
	0x01160000: "GoodEdited_DependentValueChanged", 0x01170000: "GoodEdited_DominantValueChanged",
	0x01180000: "GoodEdited_DominantValueChanged_DependentValueChanged",
	0x04070000: "GoodFaultStateActive", 0x00A50000: "GoodNoData", 0x002E0000: "GoodCompletesAsynchronously",
}

// IsLive reports whether a value with this status is what its source shows.
func (s Status) IsLive() bool { return s.IsGood() && notLive[s.Code()] == "" }

// IsGood reports whether the severity is good: it is in the two highest bits (IEC 62541-4 7.39).
func (s Status) IsGood() bool { return s&severityMask == 0 }

// IsUncertain reports whether the server doubts the value.
func (s Status) IsUncertain() bool { return s&severityMask == severityUncertain }

// Code is the status without the bits that tell more about a value.
func (s Status) Code() Status { return s & statusCodeMask }

// Error makes a status that is not good an error.
func (s Status) Error() string {
	if name := cmp.Or(statusNames[s.Code()], notLive[s.Code()]); name != "" {
		return name
	}
	return fmt.Sprintf("status 0x%08X", uint32(s))
}

// Is compares the codes.
func (s Status) Is(other error) bool {
	o, ok := other.(Status)
	return ok && o.Code() == s.Code()
}
